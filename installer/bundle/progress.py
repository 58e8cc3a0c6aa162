"""Progress of long work over files: how many files and bytes of how many, and what remains at the present speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """One report. `seconds_left` is None until there is a speed to speak of."""

    what: str
    files: int
    files_total: int
    size: int
    size_total: int
    seconds_left: float | None


Report = Callable[[Amount], None]


def silent(amount: Amount) -> None:
    """Report to nobody."""
    del amount


class Meter:
    """Adds up what several threads have done and reports it a few times a second."""

    def __init__(
        self,
        what: str,
        *,
        files: int,
        size: int,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
        every: float = 0.25,
    ) -> None:
        self._what = what
        self._files_total = files
        self._size_total = size
        self._report = report
        self._clock = clock
        self._every = every
        self._begun = clock()
        self._said = self._begun
        self._files = 0
        self._size = 0
        self._lock = threading.Lock()

    def add_bytes(self, count: int) -> None:
        """Count bytes; reports when the last report is a while ago."""
        with self._lock:
            self._size += count
            now = self._clock()
            if now - self._said >= self._every:
                self._said = now
                self._report(self._amount(now))

    def add_file(self) -> None:
        """Count a finished file; the last one is always reported."""
        with self._lock:
            self._files += 1
            if self._files == self._files_total:
                self._report(self._amount(self._clock()))

    def _amount(self, now: float) -> Amount:
        elapsed = now - self._begun
        left = None
        if self._size and elapsed > 0.5:
            left = elapsed / self._size * max(0, self._size_total - self._size)
        return Amount(
            what=self._what,
            files=self._files,
            files_total=self._files_total,
            size=self._size,
            size_total=self._size_total,
            seconds_left=left,
        )
