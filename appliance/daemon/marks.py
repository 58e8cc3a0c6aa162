"""How the daemon finds the processes it started, also after it was itself killed: each carries a mark.

The mark stands in the process's environment (INTRAMUROS_UNIT, INTRAMUROS_STATE), so it exists from the very first
instant of the process and goes with it: no pid file to be missing, stale or half-written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.process import ProcessIdentity, identify

_UNIT = "INTRAMUROS_UNIT"
_STATE = "INTRAMUROS_STATE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A living process of ours: which unit it is, and who exactly."""

    unit: str
    identity: ProcessIdentity


def mark(unit: str, root: Path) -> dict[str, str]:
    """Return the environment that marks a process as `unit` of the state at `root`."""
    return {_UNIT: unit, _STATE: str(root)}


def find(root: Path) -> tuple[Found, ...]:
    """Return every living marked process of this state, oldest first. Only group leaders count as units."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        unit = _unit_of(entry, root)
        identity = identify(int(entry.name)) if unit else None
        if unit and identity is not None and _leads(identity.pid):
            found.append(Found(unit=unit, identity=identity))
    return tuple(sorted(found, key=lambda item: item.identity.started))


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _unit_of(process: Path, root: Path) -> str | None:
    try:
        block = (process / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    values = dict(item.split(b"=", 1) for item in block.split(b"\0") if b"=" in item)
    if values.get(_STATE.encode()) != os.fsencode(str(root)):
        return None
    unit = values.get(_UNIT.encode())
    return unit.decode() if unit else None
