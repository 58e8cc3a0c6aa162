"""Lets a few groups use a file or a socket that stays closed to everybody else.

A box separates users: engines and the daemon are one, the gateway another, people others again. Two means, both of the
file system: a set-group-ID directory hands its group on to what is made in it (the gateway's), and an access control
list (acl(5)) opens one socket to several groups (the roles'). Nothing here gives anything to "others".
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ATTRIBUTE: Final = "system.posix_acl_access"
_VERSION: Final = 2
_UNDEFINED: Final = 0xFFFFFFFF
_OWNER, _OWNING_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x04, 0x08, 0x10, 0x20
_READ_WRITE: Final = 0o6


def shared_mode(directory: Path, *, private: int, shared: int) -> int:
    """Return the mode for something new in `directory`: `shared` where that is a set-group-ID directory."""
    return shared if directory.stat().st_mode & stat.S_ISGID else private


def open_to_groups(path: Path, groups: Iterable[int]) -> None:
    """Let these groups read and write `path` besides its owner; its own group and others get nothing.

    Raises OSError where the file system has no access control lists.
    """
    os.setxattr(path, _ATTRIBUTE, access_list(groups))


def access_list(groups: Iterable[int]) -> bytes:
    """Return the list as the kernel stores it (linux/posix_acl_xattr.h): entries ordered by tag, then by id."""
    entries = [(_OWNER, _READ_WRITE, _UNDEFINED), (_OWNING_GROUP, 0, _UNDEFINED)]
    entries += [(_GROUP, _READ_WRITE, number) for number in sorted(set(groups))]
    entries += [(_MASK, _READ_WRITE, _UNDEFINED), (_OTHERS, 0, _UNDEFINED)]
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
