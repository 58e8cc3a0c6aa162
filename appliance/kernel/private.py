"""Private keys and passwords are files of one owner, mode 0600: written so, and refused when found otherwise."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from appliance.kernel.durable import write_file
from appliance.kernel.errors import Forbidden, NotFound

PRIVATE_MODE = 0o600


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` in one step; no byte of it is ever readable by others. Raises OSError."""
    write_file(path, data, mode=PRIVATE_MODE)


def read_private(path: Path) -> bytes:
    """Read a private file. Raises NotFound, or Forbidden when others may read it or it is somebody else's."""
    check_private(path)
    with path.open("rb") as stream:
        _require_private(path, os.fstat(stream.fileno()))  # what was opened, not what the name meant before
        return stream.read()


def check_private(path: Path) -> None:
    """Refuse a private file that a library will open itself. Raises NotFound or Forbidden."""
    try:
        status = path.lstat()
    except FileNotFoundError as error:
        raise NotFound("private.missing", f"The private file {path} does not exist.") from error
    _require_private(path, status)


def _require_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Forbidden(
            "private.kind",
            f"The private file {path} is a link or something else that is no regular file.",
            hint="Put the file itself there.",
        )
    if status.st_uid != os.geteuid():
        raise Forbidden(
            "private.owner",
            f"The private file {path} belongs to user {status.st_uid}, not to user {os.geteuid()} who reads it.",
            hint=f"Give it back with: chown {os.geteuid()} {path}",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~PRIVATE_MODE:
        raise Forbidden(
            "private.mode",
            f"The private file {path} has mode {mode:04o}; others may have read it.",
            hint=f"Replace the secret if that is possible; otherwise: chmod 600 {path}",
        )
