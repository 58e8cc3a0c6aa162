"""Hashes many files at once, largest first, each opened without following links and read in pieces.

The size is compared before a byte is read: a file that grew cannot keep the reader busy.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appliance.kernel.errors import IntegrityFailure
from installer.bundle.progress import Meter, Report, silent

_PIECE = 1 << 20


def worker_count() -> int:
    """Return how many threads hash: hashlib lets go of the interpreter, so one for each processor, eight at most."""
    return max(1, min(8, len(os.sched_getaffinity(0))))


def hash_files(root: Path, sizes: Mapping[str, int], *, what: str, report: Report = silent) -> dict[str, str]:
    """Return path -> SHA-256 of files below `root` with these sizes. Raises IntegrityFailure, OSError."""
    meter = Meter(what, files=len(sizes), size=sum(sizes.values()), report=report)

    def work(path: str) -> tuple[str, str]:
        found = hash_file(root / path, sizes[path], shown=path, meter=meter)
        meter.add_file()
        return path, found

    ordered = sorted(sizes, key=lambda path: (-sizes[path], path))
    with ThreadPoolExecutor(worker_count()) as pool:
        return dict(pool.map(work, ordered))


def hash_file(file: Path, size: int, *, shown: str, meter: Meter | None = None) -> str:
    """Return the SHA-256 of a regular file of exactly `size` bytes. Raises IntegrityFailure."""
    digest = hashlib.sha256()
    for piece in read_exactly(file, size, shown=shown):
        digest.update(piece)
        if meter is not None:
            meter.add_bytes(len(piece))
    return digest.hexdigest()


def read_exactly(file: Path, size: int, *, shown: str) -> Iterable[bytes]:
    """Yield the pieces of a regular file of exactly `size` bytes. Raises IntegrityFailure."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityFailure("bundle.special", f"{shown} is not a regular file.")
        check_size(shown, status.st_size, size)
        remaining = size
        while piece := stream.read(min(_PIECE, remaining + 1)):
            remaining -= len(piece)
            if remaining < 0:
                raise size_differs(shown, size - remaining, size)
            yield piece
        if remaining:
            raise size_differs(shown, size - remaining, size)


def check_size(shown: str, found: int, wanted: int) -> None:
    """Raise IntegrityFailure when a size is not the listed one."""
    if found != wanted:
        raise size_differs(shown, found, wanted)


def size_differs(shown: str, found: int, wanted: int) -> IntegrityFailure:
    """Say that a file is cut off, or longer than it was."""
    if found < wanted:
        return IntegrityFailure(
            "bundle.truncated",
            f"{shown} is cut off: {found} of {wanted} bytes.",
            hint="Copy the bundle again; the medium may have been removed too early.",
        )
    return IntegrityFailure("bundle.altered", f"{shown} has {found} bytes instead of {wanted}.")
