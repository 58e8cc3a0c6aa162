"""One metric of two evaluations side by side. Apart from `comparison`, so that who reads it needs no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What can be said of the second model against the first."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One metric: both figures on the common rows, second less first with its 95 % interval, McNemar's p or None."""

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float | None
    rows: int
    left_out: int
    lower_is_better: bool
    outcome: Outcome
