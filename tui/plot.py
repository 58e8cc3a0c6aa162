"""A text plot of one series, a curve or bars: eighth blocks on a rich terminal, `#` and `.` on a plain one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_LABEL = 8
_WIDEST = 4
"""Cells of a bar with the gap behind it, at most."""


def plot(values: Sequence[float], *, width: int, height: int, ascii: bool) -> list[str]:
    """Draw `values` from left to right in `height` lines of at most `width` cells, with the scale at the left.

    More values than columns are averaged column by column, so that nothing is skipped. The lowest value keeps
    one mark of height: an empty column means that there was no value.
    """
    columns = max(1, width - _LABEL - 1)
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    if not finite or height < 1:
        return []
    return _drawn(_averages(finite, columns), height=height, ascii=ascii)


def bars(values: Sequence[float | None], *, best: int, width: int, height: int, ascii: bool) -> list[str]:
    """Draw one bar for each value, None as a gap, and a last line with the first and last number and `^` at the best.

    `best` counts from 0. Where there are more values than columns, as many before it as fit around it are shown.
    """
    columns = max(1, width - _LABEL - 1)
    first = max(0, min(best - columns // 2, len(values) - columns))
    shown = values[first : first + columns]
    if height < 1 or not any(value is not None for value in shown):
        return []
    wide = max(1, min(_WIDEST, columns // len(shown)))
    rows = _drawn(shown, height=height, ascii=ascii, wide=wide)
    return [*rows, " " * (_LABEL + 1) + _numbers(first + 1, len(shown), best - first, wide)]


def _numbers(first: int, count: int, best: int, wide: int) -> str:
    """The line below the bars: the number of the first and the last, and the best's with a mark."""
    row = [" "] * (count * wide + _LABEL)
    last = first + count - 1
    for at, text in ((best * wide, f"^{first + best}"), (0, str(first)), ((count - 1) * wide, str(last))):
        if all(cell == " " for cell in row[max(0, at - 1) : at + len(text) + 1]):
            row[at : at + len(text)] = text
    return "".join(row).rstrip()


def _drawn(points: Sequence[float | None], *, height: int, ascii: bool, wide: int = 1) -> list[str]:
    """Draw points that are there as columns `wide` cells wide; from two cells on, one of them is a gap."""
    known = [value for value in points if value is not None]
    low, high = min(known), max(known)
    reach = (high - low) or 1.0
    levels = [0 if value is None else 1 + round((value - low) / reach * (height * 8 - 1)) for value in points]
    body, gap = max(1, wide - 1), " " * (wide > 1)
    edge = "|" if ascii else "│"
    rows = []
    for row in range(height):
        floor = (height - 1 - row) * 8
        marks = "".join(_mark(level - floor, ascii=ascii) * body + gap for level in levels)
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
