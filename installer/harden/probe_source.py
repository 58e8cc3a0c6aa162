"""Where the proof of a new connection comes from: the address of the real administrator, if it can be known.

Pure but for the reading of /proc. A proof from anywhere else would say nothing about the person who needs to get in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.errors import BadInput

PORT_RANGES = ((61000, 61100), (62000, 62100), (63000, 63100), (64000, 64100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The SSH session that we are in: the administrator's address and port, and the address it was opened to."""

    client: str
    client_port: int
    server: str
    server_port: int


def session_of_caller(pid: int, proc: Path = Path("/proc")) -> Session | None:
    """Return the SSH session that the process or one of its parents runs in; sudo keeps it from the environment."""
    while pid > 1:
        try:
            environment = (proc / str(pid) / "environ").read_bytes()
            status = (proc / str(pid) / "stat").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
        for entry in environment.split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == b"SSH_CONNECTION" and (session := parse_session(value.decode(errors="replace"))):
                return session
        pid = int(status[status.rindex(")") + 2 :].split()[1])
    return None


def parse_session(text: str) -> Session | None:
    """Read the value of SSH_CONNECTION (ssh(1)); None when it is something else."""
    words = text.split()
    try:
        client, client_port, server, server_port = words
        return Session(
            client=_address(client), client_port=int(client_port), server=_address(server), server_port=int(server_port)
        )
    except ValueError:
        return None


def choose_source(
    *, configured: str, session: Session | None, admin_networks: Sequence[str], own: Iterable[str]
) -> str:
    """Return the address to prove from: as configured, else the administrator's own, else one of its network.

    Raises BadInput when none is usable.
    """
    mine = {_address(item) for item in own}
    if configured:
        try:
            chosen = _address(configured)
        except ValueError as error:
            raise BadInput("lifeline.source", f"{configured} is no address to prove a connection from.") from error
        if chosen in mine:
            raise BadInput("lifeline.source", f"{configured} is an address of this box; name one of an administrator.")
        return chosen
    if session is not None and session.client not in mine and not ipaddress.ip_address(session.client).is_loopback:
        return session.client
    for network in admin_networks:
        for candidate in _first_hosts(network):
            if candidate not in mine:
                return candidate
    raise BadInput(
        "lifeline.source",
        "No address of an administrator is known to prove a connection from.",
        hint="Set lifeline.probe_from in the answers.",
    )


def choose_ports(taken: Iterable[int]) -> tuple[int, int]:
    """Return a range of client ports that no present session uses: replies to it are led into the probe."""
    used = set(taken)
    for low, high in PORT_RANGES:
        if not any(low <= port <= high for port in used):
            return low, high
    return PORT_RANGES[0]


def _first_hosts(network: str) -> Iterable[str]:
    parsed = ipaddress.ip_network(network, strict=False)
    if parsed.num_addresses == 1:
        yield str(parsed.network_address)
        return
    for offset, host in enumerate(parsed.hosts()):
        if offset == 16:
            return
        yield str(host)


def _address(text: str) -> str:
    """Return an address in its one canonical form; an IPv4 address within IPv6 as IPv4."""
    parsed = ipaddress.ip_address(text.split("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)
