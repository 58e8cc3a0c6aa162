"""How far a cross-validated figure may be trusted: mean, standard deviation and an interval. Pure.

The folds share training rows, so the plain interval is too narrow; the variance is corrected for it (Nadeau and
Bengio, Inference for the generalization error, 2003).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over all folds; `low` and `high` bound its mean with 95 % confidence."""

    mean: float
    deviation: float
    low: float
    high: float
    values: tuple[float, ...]


def spread_of(values: Sequence[float]) -> Spread:
    """Return the spread of a figure that was measured on each of k folds, k at least 2."""
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    # One fold of k is tested, k - 1 are trained on: test rows over training rows is 1 / (k - 1).
    error = math.sqrt(variance * (1 / count + 1 / (count - 1)))
    reach = student_quantile((1 + _CONFIDENCE) / 2, count - 1) * error
    return Spread(mean=mean, deviation=math.sqrt(variance), low=mean - reach, high=mean + reach, values=tuple(values))


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution for a probability above 0.5."""
    low, high = 0.0, 1.0
    while _inside(high, freedom) < 2 * probability - 1:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < 2 * probability - 1 else (low, middle)
    return (low + high) / 2


def _inside(t: float, freedom: int) -> float:
    """Return the probability that |T| is at most t (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    if freedom % 2:
        term, total = cosine, 0.0
        for number in range(3, freedom + 1, 2):
            total += term
            term *= cosine**2 * (number - 1) / number
        return (angle + sine * total) * 2 / math.pi
    term, total = 1.0, 0.0
    for number in range(2, freedom + 1, 2):
        total += term
        term *= cosine**2 * (number - 1) / number
    return sine * total
