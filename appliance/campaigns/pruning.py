"""The median rule: a trial stops when it is worse, at some step, than half of the earlier trials were there.

Pure, and it looks at earlier batches only: whether and where a trial is cut follows from figures alone, however fast
jobs ran. A trial that ended before anybody looked is judged in the same way afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

_FEWEST = 4
"""Complete earlier trials without which nothing is stopped."""

Reports = Mapping[int, float]
"""Step -> figure."""


def pruned_at(reports: Reports, earlier: Sequence[Reports], *, minimize: bool) -> int | None:
    """Return the first step at which the trial's best figure is worse than the median of the earlier ones; or None.

    The last step of the earlier ones is no place to stop: there a trial is done.
    """
    end = max((max(known, default=0) for known in earlier), default=0)
    sign = 1.0 if minimize else -1.0
    best = float("inf")
    for step in sorted(reports):
        best = min(best, sign * reports[step])
        others = [sign * found for known in earlier if (found := _at(known, step)) is not None]
        if step < end and len(others) >= _FEWEST and best > median(others):
            return step
    return None


def upto(reports: Reports, step: int) -> dict[int, float]:
    """Return the reports that were there when the trial was stopped."""
    return {at: value for at, value in reports.items() if at <= step}


def _at(reports: Reports, step: int) -> float | None:
    """Return what a trial had reported last by `step`."""
    before = [at for at in reports if at <= step]
    return reports[max(before)] if before else None
