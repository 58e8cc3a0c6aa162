"""A scratch directory that one process at a time may use, empty at entry, gone at exit.

What a killed process left behind is removed by the next one: the kernel releases the lock of the dead, so a held
lock always means a live owner.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.kernel.errors import Unavailable, storage_errors


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """Create, lock and empty `path` (mode 0700); remove it at exit unless it was renamed away.

    Raises Unavailable (`backup.busy`) when another process is at work in it.
    """
    with storage_errors("preparing a temporary directory"):
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _lock(descriptor, path)
        with storage_errors("clearing the remains of an interrupted run"):
            _empty(path)
        try:
            yield path
        finally:
            if _is_still(path, descriptor):
                with storage_errors("removing a temporary directory"):
                    shutil.rmtree(path)
    finally:
        os.close(descriptor)


def remove_leftover(path: Path) -> bool:
    """Remove what a killed process left at `path`; True when there was something. A live owner is left alone."""
    if not path.is_dir():
        return False
    try:
        with scratch_directory(path):
            return True
    except Unavailable:
        return False


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Unavailable(
            "backup.busy",
            f"Another backup or restore is at work in {path}.",
            hint="Wait until it has finished, then run the same command again.",
        ) from error


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _is_still(path: Path, descriptor: int) -> bool:
    """Tell whether `path` still is the directory that was locked, not one that took its name later."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
