"""Two evaluations on the same rows: by how much they differ, how sure that is, and a verdict for each metric.

A verdict is given only where it is earned: for yes/no metrics McNemar's exact test must be below 0.05, for others the
paired 95 % interval must leave out zero. Everything else is "no difference". Rows that only one side has are left out
and counted; with none in common there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.evaluation.difference import Difference, Outcome
from appliance.evaluation.intervals import difference_interval, figure, mcnemar, take
from appliance.evaluation.scores import MacroF1, Mean, Scores, lower_is_better
from appliance.kernel.errors import BadInput

SIGNIFICANT: Final = 0.05

Evaluation = Mapping[str, tuple[tuple[str, ...], Scores]]
"""`task.metric` -> digests of the rows, and their scores."""


def compare(first: Evaluation, second: Evaluation) -> tuple[Difference, ...]:
    """Compare every metric that both have. Raises BadInput (`evaluation.nothing_common`)."""
    found = tuple(
        difference
        for metric in sorted(first.keys() & second.keys())
        if (difference := _difference(metric, first[metric], second[metric])) is not None
    )
    if not found:
        raise BadInput(
            "evaluation.nothing_common",
            "These evaluations have no metric on a row in common.",
            hint="Evaluate both on the same version of a suite or data set.",
        )
    return found


def _difference(
    metric: str, one: tuple[tuple[str, ...], Scores], other: tuple[tuple[str, ...], Scores]
) -> Difference | None:
    paired = _paired(one, other)
    if paired is None:
        return None
    before, after, rows = paired
    low, high = difference_interval(before, after)
    # An interval of equal rows is exactly zero; rounding must not make a verdict of it.
    low, high = (0.0 if abs(bound) < 1e-12 else bound for bound in (low, high))
    p = mcnemar(before, after) if isinstance(before, Mean) and isinstance(after, Mean) and before.yes_no else None
    old, new = figure(before), figure(after)
    lower = lower_is_better(before)
    return Difference(
        metric=metric,
        first=old,
        second=new,
        difference=new - old,
        low=low,
        high=high,
        p=p,
        rows=rows,
        left_out=len(one[0]) + len(other[0]) - 2 * rows,
        lower_is_better=lower,
        outcome=_outcome(new - old, low, high, p, lower=lower),
    )


def _paired(
    one: tuple[tuple[str, ...], Scores], other: tuple[tuple[str, ...], Scores]
) -> tuple[Scores, Scores, int] | None:
    """Return both scores on the rows they share, in one order. Equal rows are paired in the order they stand."""
    if type(one[1]) is not type(other[1]):
        return None
    if isinstance(one[1], MacroF1) and isinstance(other[1], MacroF1) and one[1].labels != other[1].labels:
        return None
    waiting: dict[str, list[int]] = {}
    for place, row in enumerate(other[0]):
        waiting.setdefault(row, []).append(place)
    places = [(place, waiting[row].pop(0)) for place, row in enumerate(one[0]) if waiting.get(row)]
    if not places:
        return None
    return take(one[1], [a for a, _ in places]), take(other[1], [b for _, b in places]), len(places)


def _outcome(difference: float, low: float, high: float, p: float | None, *, lower: bool) -> Outcome:
    sure = p < SIGNIFICANT if p is not None else low > 0 or high < 0
    if not sure:
        return Outcome.SAME
    return Outcome.BETTER if (difference < 0) == lower else Outcome.WORSE
