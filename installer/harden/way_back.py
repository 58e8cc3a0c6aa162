"""Whether answers leave by the interface that their questions came in by; hardened, the kernel drops what does not fit.

Strict reverse paths (`rp_filter` 1) drop what comes in by another interface than the way back would take. With
`arp_ignore` 2 a neighbour is told our address only when it asks from a network of the interface. Both are of IPv4.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from appliance.kernel import process
from appliance.kernel.errors import Conflict

Run = Callable[[Sequence[str]], process.Outcome]

_HINT = "Give the box a route to the administrators by {arrives}, or connect to an address of {leaves}."


class WayBack(msgspec.Struct, frozen=True, kw_only=True):
    """From `source` to `server`, an address on the interface `arrives`, and back by `leaves` over `next_hop`.

    `knows_neighbour` tells whether that neighbour lies in a network of the first interface.
    """

    source: str
    server: str
    arrives: str
    leaves: str
    next_hop: str
    knows_neighbour: bool = True

    @property
    def elsewhere(self) -> bool:
        """Tell whether the answer leaves by another interface."""
        return self.arrives != self.leaves

    @property
    def text(self) -> str:
        """Say what is wrong with it."""
        if self.elsewhere:
            return f"{self.source} comes in by {self.arrives} ({self.server}), and answers leave by {self.leaves}"
        return f"the neighbour {self.next_hop} lies in no network of {self.arrives}"

    @property
    def hint(self) -> str:
        """Say what to do."""
        if self.elsewhere:
            return _HINT.format(arrives=self.arrives, leaves=self.leaves)
        return f"Give {self.arrives} an address with the length of its network, which {self.next_hop} is in."


def find_way_back(source: str, server: str, run: Run) -> WayBack | None:
    """Return the way from and to an address; None for IPv6, and where there is no way or no interface to compare."""
    if ":" in source or ":" in server:
        return None
    listed, found = run(["ip", "-j", "-4", "-d", "address", "show"]), run(["ip", "-j", "-4", "route", "get", source])
    links: list[dict[str, Any]] = json.loads(listed.stdout) if listed.status == 0 and listed.stdout else []
    routes: list[dict[str, Any]] = json.loads(found.stdout) if found.status == 0 and found.stdout else []
    holder = next((link for link in links if server in (info.get("local") for info in link.get("addr_info", ()))), None)
    # An address of the loopback or of a dummy is reached by any interface: there is nothing to compare.
    if holder is None or not routes or "dev" not in routes[0] or _is_virtual(holder):
        return None
    next_hop = str(routes[0].get("gateway", source))
    networks = [
        ipaddress.ip_network(f"{info['local']}/{info['prefixlen']}", strict=False)
        for info in holder["addr_info"]
        if "local" in info
    ]
    asks = not {"NOARP", "POINTOPOINT"} & set(holder.get("flags", ()))
    return WayBack(
        source=source,
        server=server,
        arrives=str(holder["ifname"]),
        leaves=str(routes[0]["dev"]),
        next_hop=next_hop,
        knows_neighbour=not asks or any(ipaddress.ip_address(next_hop) in network for network in networks),
    )


def require_way_back(source: str, server: str, run: Run) -> None:
    """Refuse kernel parameters in force that drop what comes from an address. Raises Conflict.

    The proof itself cannot see it: its packets come in by an interface of its own.
    """
    way = find_way_back(source, server, run)
    if way is None:
        return
    strict = way.elsewhere and _in_force("rp_filter", way.arrives, run) == 1
    silent = not way.elsewhere and not way.knows_neighbour and _in_force("arp_ignore", way.arrives, run) >= 2
    if strict or silent:
        raise Conflict("lifeline.no_way_back", f"The hardened kernel would drop it: {way.text}.", hint=way.hint)


def _in_force(name: str, interface: str, run: Run) -> int:
    """Return what the kernel acts on: the greater of the parameter for all interfaces and for this one."""
    said = [run(["sysctl", "-n", f"net/ipv4/conf/{each}/{name}"]) for each in ("all", interface)]
    return max((int(each.stdout) for each in said if each.status == 0 and each.stdout.strip().isdigit()), default=0)


def _is_virtual(link: dict[str, Any]) -> bool:
    return link.get("link_type") == "loopback" or link.get("linkinfo", {}).get("info_kind") == "dummy"
