"""Pairs are compared pairwise, and who goes first alternates."""

from __future__ import annotations

import pytest

from benchmarks.comparison import Figure, at_least, at_most, median_ratio, spread, turns


def test_order_alternates() -> None:
    assert list(turns("a", "b", 3)) == [("a", "b"), ("b", "a"), ("a", "b")]


def test_one_disturbed_pair_does_not_move_the_ratio() -> None:
    assert median_ratio([10, 20, 3], [10, 20, 30]) == 1.0


def test_pairs_must_be_complete() -> None:
    with pytest.raises(ValueError, match="shorter"):
        median_ratio([1, 2], [1])


def test_spread_is_rounded() -> None:
    assert spread([1.23456, 2, 3]) == {"median": 2, "min": 1.235, "max": 3}


def test_a_figure_is_its_median_against_its_goal() -> None:
    figure = Figure("S4", "ratio", at_most(0.1), [0.05, 0.4, 0.0712345])
    assert figure.document() == {
        "id": "S4",
        "value": 0.07123,
        "unit": "ratio",
        "goal": "<= 0.1",
        "met": True,
        "runs": [0.05, 0.4, 0.07123],
    }
    assert not Figure("S1", "ratio", at_least(1), [0.9]).document()["met"]
