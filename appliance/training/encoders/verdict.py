"""Whether one classifier is better than another on the same texts, and how sure its figures are. Pure arithmetic.

McNemar's exact test (1947) looks only at the texts on which the two disagree. Intervals are Wilson's (1927) for a share
and the percentile bootstrap (Efron 1979) for macro-F1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

_RESAMPLES: Final = 1000
_NORMAL: Final = 1.959963984540054
"""97.5 % quantile of the normal distribution: intervals are of 95 %."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What McNemar's test says of a candidate and the classifier it must beat."""

    verdict: str
    """gain | no gain | loss"""
    p_value: float
    only_candidate: int
    """texts that the candidate alone has right"""
    only_baseline: int


def compare(baseline: Sequence[bool], candidate: Sequence[bool], *, significance: float) -> Comparison:
    """Compare two classifiers by which texts each has right."""
    pairs = list(zip(baseline, candidate, strict=True))
    won = sum(better and not worse for worse, better in pairs)
    lost = sum(worse and not better for worse, better in pairs)
    chance = float(binomtest(min(won, lost), won + lost, 0.5).pvalue) if won + lost else 1.0
    verdict = "no gain"
    if chance < significance:
        verdict = "gain" if won > lost else "loss"
    return Comparison(verdict=verdict, p_value=chance, only_candidate=won, only_baseline=lost)


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share. Raises ValueError for no trials."""
    if count <= 0:
        raise ValueError("an interval needs at least one trial")
    share, square = right / count, _NORMAL**2 / count
    middle = (share + square / 2) / (1 + square)
    half = _NORMAL / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    # At the ends the sums are exact in theory and off by one bit in floating point.
    return (0.0 if right == 0 else middle - half), (1.0 if right == count else middle + half)


def macro_f1(wanted: Numbers, found: Numbers, *, labels: int) -> float:
    """Return the mean F1 over the labels that occur among the wanted ones. -1 stands for a label nobody can give."""
    return float(_macro_f1(_table(wanted, found, labels)))


def macro_f1_interval(wanted: Numbers, found: Numbers, *, labels: int, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of macro-F1; the same seed gives the same interval."""
    random = np.random.Generator(np.random.PCG64(seed))
    scores = []
    for _ in range(_RESAMPLES):
        rows = random.integers(0, len(wanted), len(wanted))
        scores.append(_macro_f1(_table(wanted[rows], found[rows], labels)))
    low, high = np.quantile(np.array(scores), (0.025, 0.975))
    return float(low), float(high)


def per_label(wanted: Numbers, found: Numbers, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return precision, recall, F1 and number of rows of each label."""
    right, given, asked = _table(wanted, found, len(names))
    report = {}
    for place, name in enumerate(names):
        precision = float(right[place] / given[place]) if given[place] else 0.0
        recall = float(right[place] / asked[place]) if asked[place] else 0.0
        total = precision + recall
        report[name] = {
            "precision": round(precision, 6),
            "recall": round(recall, 6),
            "f1": round(2 * precision * recall / total, 6) if total else 0.0,
            "rows": int(asked[place]),
        }
    return report


def confusion(wanted: Numbers, found: Numbers, *, labels: int) -> Numbers:
    """Return how often each label (row) was taken for each (column); labels training never saw are not in it."""
    matrix = np.zeros((labels, labels), np.int64)
    known = wanted >= 0
    np.add.at(matrix, (wanted[known], found[known]), 1)
    return matrix


def _table(wanted: Numbers, found: Numbers, labels: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return for each label how often it was found rightly, found at all, and wanted."""
    right = np.bincount(found[found == wanted], minlength=labels)
    given = np.bincount(found, minlength=labels)
    asked = np.bincount(wanted[wanted >= 0], minlength=labels)
    return right, given, asked


def _macro_f1(table: tuple[Numbers, Numbers, Numbers]) -> float:
    right, given, asked = table
    present = asked > 0
    if not present.any():
        return 0.0
    return float((2 * right[present] / (given + asked)[present]).mean())
