"""Who gets in beside what the answers say: nothing takes earlier administrators or keys away, so they are told.

Reads, and judges nothing: `installer.preflight` does. What cannot be read is taken as not there.
"""

from __future__ import annotations

import pwd
from collections.abc import Sequence
from pathlib import Path

ADMIN_GROUP = "intramuros-admin"
"""Its members may become root."""
_LABEL_LIMIT = 40
_TYPE_AND_KEY = 2


def other_administrators(user: str, *, groups: Path = Path("/etc/group")) -> tuple[str, ...]:
    """Return the members of the administrators' group beside the administrator."""
    for line in _lines(groups):
        if line.startswith(f"{ADMIN_GROUP}:"):
            return tuple(sorted({*line.rpartition(":")[2].split(",")} - {"", user}))
    return ()


def other_keys(user: str, keys: Sequence[str], *, file: Path | None = None) -> tuple[str, ...]:
    """Return the comments of the administrator's keys on this machine that are not among these ones."""
    known = {key.split()[1] for key in keys if len(key.split()) >= _TYPE_AND_KEY}
    lines = _lines(file or _authorized_keys(user))
    others = [line for line in lines if line[:1] not in {"", "#"} and not known & set(line.split())]
    return tuple(_label(line) for line in others)


def _label(line: str) -> str:
    last = line.split()[-1]
    return "without a comment" if last.startswith("AAAA") else last[:_LABEL_LIMIT]


def _authorized_keys(user: str) -> Path | None:
    try:
        return Path(pwd.getpwnam(user).pw_dir) / ".ssh" / "authorized_keys"
    except KeyError:
        return None


def _lines(path: Path | None) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(errors="replace").splitlines()] if path is not None else []
    except OSError:
        return []
