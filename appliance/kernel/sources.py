"""Opening files that a person named: regular files only, never a device, a fifo or the appliance's own secrets.

The path may be a symbolic link (the person chose it), so it is resolved once and only the result is used.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from appliance.kernel.errors import BadInput, Forbidden, IntramurosError, NotFound, storage_failure
from appliance.kernel.paths import StatePaths


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """Which file it is and in which state; equal before and after a read means that it did not change."""

    device: int
    inode: int
    size: int
    modified_ns: int


def resolve_source(given: object, *, state: StatePaths) -> Path:
    """Return the real path of a source. Raises BadInput, NotFound, or Forbidden for the appliance's own state."""
    if not isinstance(given, str) or not given or "\0" in given:
        raise BadInput("source.missing", "No source was named.", hint="Give the absolute path of a file or folder.")
    path = Path(given)
    if not path.is_absolute():
        raise BadInput("source.relative", f"The source {given} is not an absolute path.")
    try:
        real = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound("source.missing", f"There is no {given}.", hint="Is the medium mounted?") from error
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    own = (state.secrets, state.tls, state.run, state.database)
    if any(real.is_relative_to(kept.resolve()) for kept in own):
        raise Forbidden("source.forbidden", f"{given} leads into the appliance's own state.")
    return real


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises NotFound or BadInput; never blocks on a fifo, never opens a device."""
    try:
        _require_regular(path, path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound("source.missing", f"There is no {path}.") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        _require_regular(path, os.fstat(descriptor))
    except BadInput:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def identity_of(stream: BinaryIO) -> FileIdentity:
    """Return the identity of an open file."""
    status = os.fstat(stream.fileno())
    return FileIdentity(device=status.st_dev, inode=status.st_ino, size=status.st_size, modified_ns=status.st_mtime_ns)


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BadInput("source.not_a_file", f"{path} is not a regular file.", hint="Name a file on a disk.")


def _unreadable(path: Path, error: OSError | RuntimeError) -> IntramurosError:
    if isinstance(error, PermissionError):
        return BadInput(
            "source.unreadable", f"{path} cannot be read by the appliance.", hint="Check its owner and mode."
        )
    if isinstance(error, OSError) and error.strerror and "symbolic" not in error.strerror:
        return storage_failure(error, doing=f"reading {path}")
    return BadInput("source.unreadable", f"{path} is a loop of symbolic links.")
