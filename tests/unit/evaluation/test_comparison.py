"""Intervals and comparisons: against scipy, under no difference, and on rows in another order."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from appliance.evaluation.comparison import compare
from appliance.evaluation.difference import Outcome
from appliance.evaluation.intervals import interval, mcnemar
from appliance.evaluation.scores import (
    MacroF1,
    Mean,
    Scores,
    Surprise,
    TaskScores,
    decode_scores,
    encode_scores,
)
from appliance.kernel.errors import BadInput, IntegrityFailure

ROWS = tuple(f"row{number}" for number in range(400))


def yes_no(right: int, *, of: int = 400, shift: int = 0) -> Mean:
    return Mean(values=tuple(float((place - shift) % of < right) for place in range(of)), yes_no=True)


def both(first: Scores, second: Scores, *, rows: tuple[str, ...] = ROWS) -> Outcome:
    return compare({"t.m": (rows, first)}, {"t.m": (rows, second)})[0].outcome


def test_an_interval_is_scipys_within_the_resamples_noise() -> None:
    values = [random.Random(7).random() for _ in range(300)]
    values = [float(value) for value in np.random.default_rng(7).random(300)]
    reference = bootstrap((np.array(values),), np.mean, n_resamples=4000, method="percentile", rng=1)
    low, high = interval(Mean(values=tuple(values)))
    assert low == pytest.approx(reference.confidence_interval.low, abs=0.006)
    assert high == pytest.approx(reference.confidence_interval.high, abs=0.006)
    assert interval(Mean(values=tuple(values))) == (low, high)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 5), (12, 3), (3, 12), (900, 1100), (1, 0)])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    before = Mean(values=(0.0,) * gained + (1.0,) * lost + (1.0,) * 7, yes_no=True)
    after = Mean(values=(1.0,) * gained + (0.0,) * lost + (1.0,) * 7, yes_no=True)
    wanted = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(before, after) == pytest.approx(wanted, rel=1e-6)


def test_verdicts() -> None:
    assert both(yes_no(200), yes_no(260)) is Outcome.BETTER
    assert both(yes_no(260), yes_no(200)) is Outcome.WORSE
    assert both(yes_no(200), yes_no(203)) is Outcome.SAME
    assert both(yes_no(200), yes_no(200)) is Outcome.SAME
    calm = Surprise(nats=tuple(1.0 + place % 3 for place in range(400)), units=(1,) * 400)
    loud = Surprise(nats=tuple(1.5 + place % 3 for place in range(400)), units=(1,) * 400)
    assert both(calm, loud) is Outcome.WORSE
    assert both(loud, calm) is Outcome.BETTER
    truth = tuple(place % 4 for place in range(400))
    good = MacroF1(truth=truth, found=truth, labels=4)
    bad = MacroF1(truth=truth, found=tuple((place + place // 100) % 4 for place in range(400)), labels=4)
    assert both(bad, good) is Outcome.BETTER


def test_the_same_chances_rarely_look_like_a_difference() -> None:
    """Two models of the same quality: at most about one verdict in twenty may be wrong."""
    source = np.random.default_rng(3)
    wrong = 0
    for _ in range(60):
        first, second = ((source.random(120) < 0.6).astype(float) for _ in range(2))
        wrong += (
            both(
                Mean(values=tuple(map(float, first)), yes_no=True),
                Mean(values=tuple(map(float, second)), yes_no=True),
                rows=ROWS[:120],
            )
            is not Outcome.SAME
        )
    assert wrong <= 6


def test_rows_are_paired_by_what_they_ask() -> None:
    first = {"t.m": (("a", "b", "c", "c"), Mean(values=(1.0, 0.0, 1.0, 0.0), yes_no=True))}
    second = {"t.m": (("c", "x", "c", "a"), Mean(values=(1.0, 0.0, 0.0, 1.0), yes_no=True))}
    (found,) = compare(first, second)
    assert (found.rows, found.left_out, found.difference) == (3, 2, 0.0)


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(BadInput, match=r"evaluation\.nothing_common"):
        compare({"t.m": (("a",), yes_no(1, of=1))}, {"t.m": (("b",), yes_no(1, of=1))})


def test_scores_read_back_and_ruined_ones_are_refused() -> None:
    tasks = (TaskScores(task="t", rows=("a",), metrics={"m": yes_no(1, of=1)}),)
    assert decode_scores(encode_scores(tasks)) == {"t.m": (("a",), yes_no(1, of=1))}
    with pytest.raises(IntegrityFailure, match=r"evaluation\.scores"):
        decode_scores(encode_scores(tasks)[:-9])
