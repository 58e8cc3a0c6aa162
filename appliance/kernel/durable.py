"""Writes that survive a power cut: temporary name, fsync, rename, fsync of the folder.

A reader sees the old content or the new one, never a part. Modes are set before any byte is written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def fsync_directory(directory: Path) -> None:
    """Flush a directory's entries to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Flush one file's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes, *, mode: int = 0o644, exact: bool = False, owner: int | None = None) -> None:
    """Replace `path` by `data` in one step. Raises OSError and leaves the old content on failure.

    The umask narrows `mode` unless it is meant `exact`. `owner` gives the file to another user, which needs the right.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if exact:
                os.fchmod(descriptor, mode)
            if owner is not None:
                os.fchown(descriptor, owner, -1)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_directory(path.parent)


def publish_directory(temporary: Path, final: Path) -> None:
    """Flush every file below `temporary`, rename it to `final` and flush the parent."""
    for folder, _, names in os.walk(temporary):
        for name in names:
            fsync_file(Path(folder) / name)
        fsync_directory(Path(folder))
    temporary.rename(final)
    fsync_directory(final.parent)
