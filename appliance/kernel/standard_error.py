"""Standard error of a process whose log lies on the disk that may be full.

Invariant: reporting never raises. Python's own stream raises when the disk is full, keeps the line, and turns an
orderly exit into status 120 because of it: the full disk would end the very processes that outlive it.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

_DESCRIPTOR = 2


class _Forgiving(io.TextIOBase):
    """Writes at once and without a buffer; what cannot be written is lost."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return _DESCRIPTOR

    def isatty(self) -> bool:
        return os.isatty(_DESCRIPTOR)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(_DESCRIPTOR, text.encode("utf-8", "backslashreplace"))
        return len(text)


def report_without_failing() -> None:
    """Replace `sys.stderr` of this process; for the beginning of its `main`."""
    sys.stderr = _Forgiving()
