"""A text plot of one series: eighth blocks on a rich terminal, `#` and `.` on a plain one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_LABEL = 8


def plot(values: Sequence[float], *, width: int, height: int, ascii: bool) -> list[str]:
    """Draw `values` from left to right in `height` lines of at most `width` cells, with the scale at the left.

    More values than columns are averaged column by column, so that nothing is skipped. The lowest value keeps
    one mark of height: an empty column means that there was no value.
    """
    columns = max(1, width - _LABEL - 1)
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    if not finite or height < 1:
        return []
    points = _averages(finite, columns)
    low, high = min(points), max(points)
    reach = (high - low) or 1.0
    levels = [1 + round((value - low) / reach * (height * 8 - 1)) for value in points]
    edge = "|" if ascii else "│"
    rows = []
    for row in range(height):
        floor = (height - 1 - row) * 8
        marks = "".join(_mark(level - floor, ascii=ascii) for level in levels)
        rows.append(f"{_scale(row, height, low, high):>{_LABEL}}{edge}{marks}".rstrip())
    return rows


def _averages(values: Sequence[float], columns: int) -> list[float]:
    if len(values) <= columns:
        return list(values)
    bounds = [index * len(values) // columns for index in range(columns + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(bounds)]


def _mark(eighths: int, *, ascii: bool) -> str:
    if not ascii:
        return _EIGHTHS[max(0, min(8, eighths))]
    if eighths <= 0:
        return " "
    return "#" if eighths <= 8 else "."


def _scale(row: int, height: int, low: float, high: float) -> str:
    if row == 0:
        return _figure(high)
    return _figure(low) if row == height - 1 else ""


def _figure(value: float) -> str:
    text = f"{value:.3g} "
    return text if len(text) <= _LABEL else f"{value:.2g} "
