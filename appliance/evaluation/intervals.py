"""How sure a figure is: bootstrap intervals over rows, of one evaluation and of the difference of two.

Percentile bootstrap (Efron 1979): rows are drawn with replacement 1,000 times from a seeded generator, so the same
scores always give the same interval. Rows are the unit because answers within a row are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from appliance.evaluation.scores import MacroF1, Mean, Scores, Surprise

RESAMPLES: Final = 1000
CONFIDENCE: Final = 0.95
_CELLS: Final = 1 << 22
"""Drawn row numbers in memory at once."""
_SEED: Final = 20_000
_MOST_NATS: Final = 700.0

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]


def figure(scores: Scores) -> float:
    """Return the figure that all rows make together. Raises ValueError without rows."""
    count = row_count(scores)
    if not count:
        raise ValueError("a figure over no rows is not defined")
    return float(_figures(scores, np.arange(count, dtype=np.int64)[None, :])[0])


def row_count(scores: Scores) -> int:
    """Return over how many rows a figure is made."""
    match scores:
        case Mean():
            return len(scores.values)
        case Surprise():
            return len(scores.nats)
        case MacroF1():
            return len(scores.truth)


def interval(scores: Scores) -> tuple[float, float]:
    """Return the 95 % interval of a figure."""
    return _percentiles([_figures(scores, drawn) for drawn in _draws(row_count(scores))])


def difference_interval(before: Scores, after: Scores) -> tuple[float, float]:
    """Return the 95 % interval of `after` less `before`; row n of both is the same question."""
    draws = _draws(row_count(before))
    return _percentiles([_figures(after, drawn) - _figures(before, drawn) for drawn in draws])


def take(scores: Scores, places: list[int]) -> Scores:
    """Return the scores of some rows, in that order."""
    match scores:
        case Mean():
            return Mean(values=tuple(scores.values[place] for place in places), yes_no=scores.yes_no)
        case Surprise():
            return Surprise(
                nats=tuple(scores.nats[place] for place in places),
                units=tuple(scores.units[place] for place in places),
                bits=scores.bits,
            )
        case MacroF1():
            return MacroF1(
                truth=tuple(scores.truth[place] for place in places),
                found=tuple(scores.found[place] for place in places),
                labels=scores.labels,
            )


def mcnemar(before: Mean, after: Mean) -> float:
    """Return the exact two-sided p of McNemar's test (McNemar 1947) on the rows that only one of both has right."""
    gained = sum(1 for old, new in zip(before.values, after.values, strict=True) if new > old)
    lost = sum(1 for old, new in zip(before.values, after.values, strict=True) if new < old)
    changed = gained + lost
    if not changed:
        return 1.0
    # The binomial tail in logarithms: 2 ** -changed is no double beyond a thousand changes.
    total = math.lgamma(changed + 1) - changed * math.log(2)
    tail = math.fsum(
        math.exp(total - math.lgamma(k + 1) - math.lgamma(changed - k + 1)) for k in range(min(gained, lost) + 1)
    )
    return min(1.0, 2 * tail)


def _draws(count: int) -> Iterator[Indices]:
    """Yield blocks of (resamples, rows): the same blocks for the same number of rows."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    left, block = RESAMPLES, max(1, _CELLS // max(1, count))
    while left:
        size = min(block, left)
        yield generator.integers(0, count, size=(size, count), dtype=np.int64)
        left -= size


def _percentiles(blocks: list[Numbers]) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(blocks), [tail, 1 - tail])
    return float(low), float(high)


def _figures(scores: Scores, drawn: Indices) -> Numbers:
    """Return one figure for each row of `drawn`."""
    match scores:
        case Mean():
            found: Numbers = np.asarray(scores.values, np.float64)[drawn].mean(axis=1)
            return found
        case Surprise():
            nats = np.asarray(scores.nats, np.float64)[drawn].sum(axis=1)
            units = np.asarray(scores.units, np.float64)[drawn].sum(axis=1)
            # exp() of more is no finite double; a ruined model is reported as exp(700).
            per_unit = np.minimum(nats / np.maximum(units, 1), _MOST_NATS)
            figures: Numbers = per_unit / math.log(2) if scores.bits else np.exp(per_unit)
            return figures
        case MacroF1():
            truth, given = np.asarray(scores.truth, np.int64), np.asarray(scores.found, np.int64)
            return np.array([_macro_f1(truth[rows], given[rows], scores.labels) for rows in drawn])


def _macro_f1(truth: Indices, found: Indices, labels: int) -> float:
    """Mean F1 over the labels that occur among the rows or the answers."""
    right = np.bincount(truth[truth == found], minlength=labels)
    wanted = np.bincount(truth, minlength=labels)
    said = np.bincount(found[found >= 0], minlength=labels)
    present = wanted + said > 0
    return float((2 * right[present] / (wanted + said)[present]).mean())
