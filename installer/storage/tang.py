"""The Tang slot: the volume opens while one of the named servers answers. A server's key is pinned by its thumbprint.

clevis asks a person whether to trust an advertisement when it gets no thumbprint, and `-y` trusts the first answer on
the network (clevis issue 216). Neither can happen here: a server without a SHA-256 thumbprint is refused beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.kernel.errors import BadInput, StorageFailure, Unavailable
from appliance.kernel.process import run
from installer.storage import cryptsetup
from installer.storage.header import Purpose, Slot, read_header
from installer.storage.keyfiles import KeyFiles
from installer.storage.volume import Volume

_URL = re.compile(r"http://[^\s/@?#]+/?")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_TIMEOUT = 900.0


class TangServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server and the SHA-256 thumbprint (RFC 7638, base64url) of its signing key."""

    url: str
    thumbprint: str


def parse_server(text: str) -> TangServer:
    """Read `URL=THUMBPRINT` as the command line has it. Raises BadInput."""
    url, _, thumbprint = text.partition("=")
    server = TangServer(url=url, thumbprint=thumbprint)
    check_servers([server])
    return server


def check_servers(servers: Sequence[TangServer]) -> None:
    """Refuse a server whose key is not pinned. Raises BadInput."""
    if not servers:
        raise BadInput("storage.no_tang_server", "A Tang slot needs at least one server.")
    for server in servers:
        if not _URL.fullmatch(server.url):
            raise BadInput(
                "storage.tang_url",
                f"{server.url!r} is no address of a Tang server.",
                hint="Such as http://192.0.2.9:7500; what Tang sends needs no TLS.",
            )
        if not _THUMBPRINT.fullmatch(server.thumbprint):
            raise BadInput(
                "storage.tang_thumbprint",
                f"The Tang server {server.url} is named without the SHA-256 thumbprint of its signing key.",
                hint="Read it on the server itself with `tang-show-keys`. It is never taken from the network.",
            )


def policy(servers: Sequence[TangServer]) -> str:
    """Return clevis' policy: Shamir's secret sharing in which one of the servers is enough."""
    pins = [{"url": server.url, "thp": server.thumbprint} for server in servers]
    return msgspec.json.encode({"t": 1, "pins": {"tang": pins}}).decode()


def add_tang(volume: Volume, servers: Sequence[TangServer], *, unlock: Path, keys: KeyFiles, run_folder: Path) -> Slot:
    """Fill an empty slot with a key that the servers give back, and prove it. Raises BadInput or Unavailable.

    clevis keeps a copy of the header while it works; `run_folder` is in memory, so none is left on a disk.
    """
    check_servers(servers)
    number = read_header(volume.device).free_slot()
    arguments = ["-d", str(volume.device), "-s", str(number), "-k", str(unlock), "sss", policy(servers)]
    outcome = run(
        ["clevis", "luks", "bind", *arguments], timeout=_TIMEOUT, extra_environment={"TMPDIR": str(run_folder)}
    )
    if outcome.status != 0:
        raise Unavailable(
            "storage.tang_bind",
            f"No Tang slot was made: {_last_line(outcome.stderr)}",
            hint="Every named server must answer now, with the key whose thumbprint was given.",
        )
    slot = read_header(volume.device).slot(number)
    if slot is None or slot.purpose is not Purpose.TANG or not opens(volume.device, slot, keys):
        raise StorageFailure("storage.tang_unproven", f"Slot {number} of {volume.device} does not open through Tang.")
    return slot


def opens(device: Path, slot: Slot, keys: KeyFiles) -> bool:
    """Tell whether the servers, as they are now, open this very slot."""
    try:
        passphrase = fetch(device, slot)
    except Unavailable:
        return False
    return cryptsetup.slot_opens(device, slot.number, keys.put(f"tang-{slot.number}", passphrase))


def fetch(device: Path, slot: Slot) -> bytes:
    """Return the slot's key with the servers' help. Raises Unavailable, or NotFound without clevis."""
    outcome = run(["clevis", "luks", "pass", "-d", str(device), "-s", str(slot.number)], timeout=_TIMEOUT)
    key = outcome.stdout.rstrip("\n")
    if outcome.status != 0 or not key:
        raise Unavailable(
            "storage.tang_silent",
            f"No Tang server gave back the key of slot {slot.number}.",
            hint="Check that one of the servers is up, reachable, and still has its old keys.",
        )
    return key.encode()


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if not line.startswith("Error adding")]
    return lines[-1] if lines else "clevis gave no reason."
