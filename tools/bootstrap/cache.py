"""The cache of things that are expensive to make, shared by every clone of this user.

Entries are immutable directories that appear by one rename, so a reader sees a whole entry or none. Makers of
one entry take turns under a file lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.bootstrap.narration import SetupFailure, say


def cache_directory() -> Path:
    """Return the cache's folder, created when missing. Raises SetupFailure when it cannot be."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "intramuros"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupFailure(
            f"The cache {folder} cannot be created: {error.strerror}.",
            hint="Set XDG_CACHE_HOME to a writable folder.",
        ) from error
    return folder


def entry(cache: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return the cache entry `name`, made by `make(folder)` when it is not there yet."""
    final = cache / name
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(final.with_name(f".{final.name}.lock"), waiting_for=f"another set-up that is making {name}"):
        if final.is_dir():
            return final
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            make(temporary)
            temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


@contextmanager
def exclusive(path: Path, *, waiting_for: str) -> Iterator[None]:
    """Hold the lock on `path` (a directory, or a file that is created); tell people when it is taken."""
    flags = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for {waiting_for}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
