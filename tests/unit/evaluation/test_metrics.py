"""Figures about answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.evaluation.metrics import exact_match, mean, perplexity, token_f1


@pytest.mark.parametrize(
    ("expected", "got", "equal"),
    [
        ("8443", "8443", True),
        ("  two\n words ", "two  words", True),
        ("", " \n", True),
        ("Port", "port", False),
        ("8443", "8443.", False),
        ("two words", "twowords", False),
    ],
)
def test_exact_match_forgives_white_space_alone(expected: str, got: str, equal: bool) -> None:
    assert exact_match(expected, got) is equal


@pytest.mark.parametrize(
    ("expected", "got", "score"),
    [
        ("a b c", "a b c", 1.0),
        ("a b c d", "a b", 2 * 1.0 * 0.5 / 1.5),
        ("a a b", "a b b", 2 / 3),
        ("a", "b", 0.0),
        ("a", "", 0.0),
        ("", "a", 0.0),
        ("", " ", 1.0),
    ],
)
def test_token_f1(expected: str, got: str, score: float) -> None:
    assert token_f1(expected, got) == pytest.approx(score)


@given(st.text(alphabet="ab \n\ufffd", max_size=12), st.text(alphabet="ab \n\ufffd", max_size=12))
def test_f1_is_symmetric_and_one_for_a_match(left: str, right: str) -> None:
    assert token_f1(left, right) == pytest.approx(token_f1(right, left))
    assert 0.0 <= token_f1(left, right) <= 1.0
    if exact_match(left, right):
        assert token_f1(left, right) == 1.0


def test_perplexity_weighs_tokens_and_not_answers() -> None:
    assert perplexity([3 * math.log(2), math.log(16)], [3, 1]) == pytest.approx(math.exp((7 * math.log(2)) / 4))


def test_perplexity_of_a_ruined_model_stays_a_number() -> None:
    assert math.isfinite(perplexity([1e300], [1]))


def test_nothing_to_average_is_an_error() -> None:
    with pytest.raises(ValueError):
        mean([])
    with pytest.raises(ValueError):
        perplexity([], [])
