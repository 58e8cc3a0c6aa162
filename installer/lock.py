"""The lock that one installer can have at a time; it goes with the process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from appliance.kernel.errors import Conflict, storage_errors
from installer.places import Places


@contextlib.contextmanager
def one_installer(places: Places) -> Iterator[None]:
    """Hold the lock. Raises Conflict (another installer runs), StorageFailure."""
    with storage_errors("taking the installer's lock"):
        places.memory.mkdir(parents=True, exist_ok=True, mode=0o755)
        descriptor = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                "install.running",
                f"Another installer (process {_named(descriptor) or 'unknown'}) is at work on this machine.",
                hint="Watch it with: intramuros runs follow last",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(lock: Path) -> int | None:
    """Return the process that holds the lock, 0 when it did not write its number yet, or None when nobody holds it."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(descriptor)
    finally:
        os.close(descriptor)
    return None


def _named(descriptor: int) -> int:
    text = os.pread(descriptor, 64, 0).strip()
    return int(text) if text.isdigit() else 0
