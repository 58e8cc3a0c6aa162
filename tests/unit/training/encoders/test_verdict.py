"""McNemar's test, intervals and macro-F1, against scipy's and scikit-learn's own and against numbers done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score

from appliance.training.encoders.verdict import (
    compare,
    confusion,
    macro_f1,
    macro_f1_interval,
    per_label,
    wilson,
)


def rights(only_first: int, only_second: int, both: int = 50) -> tuple[list[bool], list[bool]]:
    first = [True] * only_first + [False] * only_second + [True] * both
    second = [False] * only_first + [True] * only_second + [True] * both
    return first, second


@pytest.mark.parametrize(
    ("lost", "won", "verdict"),
    [(5, 20, "gain"), (20, 5, "loss"), (10, 14, "no gain"), (0, 5, "no gain"), (0, 6, "gain"), (0, 0, "no gain")],
)
def test_the_verdict_is_that_of_the_exact_test(lost: int, won: int, verdict: str) -> None:
    found = compare(*rights(lost, won), significance=0.05)
    assert found.verdict == verdict
    assert (found.only_candidate, found.only_baseline) == (won, lost)
    expected = binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    assert found.p_value == pytest.approx(expected)


def test_rows_on_which_both_agree_change_nothing() -> None:
    few, many = (compare(*rights(3, 9, both), significance=0.05) for both in (0, 10_000))
    assert few == many


def test_wilson_agrees_with_scipy_and_stays_in_bounds() -> None:
    for right, count in ((0, 7), (7, 7), (3, 11), (930, 1000)):
        expected = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0
    with pytest.raises(ValueError, match="trial"):
        wilson(0, 0)


WANTED = np.array([0, 0, 1, 1, 2, 2, 2, 0])
FOUND = np.array([0, 1, 1, 1, 2, 0, 2, 0])


def test_macro_f1_is_scikit_learns() -> None:
    assert macro_f1(WANTED, FOUND, labels=3) == pytest.approx(f1_score(WANTED, FOUND, average="macro"))
    assert (confusion(WANTED, FOUND, labels=3) == confusion_matrix(WANTED, FOUND)).all()
    report = per_label(WANTED, FOUND, ("a", "b", "c"))
    assert report["b"] == {"precision": 0.666667, "recall": 1.0, "f1": 0.8, "rows": 2}


def test_a_label_training_never_saw_is_wrong_and_not_in_the_table() -> None:
    wanted = np.append(WANTED, -1)
    found = np.append(FOUND, 0)
    assert confusion(wanted, found, labels=3).sum() == len(WANTED)
    # It costs the label that was given in its place.
    assert macro_f1(wanted, found, labels=3) < macro_f1(WANTED, FOUND, labels=3)


def test_the_interval_holds_the_figure_and_repeats() -> None:
    low, high = macro_f1_interval(WANTED, FOUND, labels=3, seed=4)
    assert low <= macro_f1(WANTED, FOUND, labels=3) <= high
    assert (low, high) == macro_f1_interval(WANTED, FOUND, labels=3, seed=4)
