from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.prompt_lookup import NGRAM, Lookup, worthwhile
from appliance.engine.step_cost import StepCost

FLAT = StepCost(curve={1: 0.010, 8: 0.011, 64: 0.015})
STEEP = StepCost(curve={1: 0.024, 2: 0.063, 4: 0.107, 8: 0.112})
"""Measured: 0.5 billion parameters in Q8_0 on two cores, where two rows cost more than two steps."""


def test_a_flat_curve_drafts_and_a_steep_one_only_what_is_nearly_certain() -> None:
    assert worthwhile(FLAT, rows=1, acceptance=0.7, most=7) >= 4
    assert worthwhile(FLAT, rows=1, acceptance=0.01, most=7) == 0
    assert worthwhile(STEEP, rows=1, acceptance=0.7, most=7) == 0
    assert worthwhile(STEEP, rows=1, acceptance=0.99, most=7) == 7


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 16), st.integers(0, 7))
def test_what_is_drafted_is_expected_to_be_faster(acceptance: float, rows: int, most: int) -> None:
    count = worthwhile(STEEP, rows=rows, acceptance=acceptance, most=most)
    assert 0 <= count <= most
    gained = sum(acceptance**power for power in range(1, count + 1))
    if count:
        assert gained > rows * (STEEP.rows(rows + count) / STEEP.rows(rows) - 1)


def test_the_latest_continuation_is_guessed() -> None:
    lookup = Lookup()
    text = [1, 2, 3, 4, 5, 9, 1, 2, 3, 6, 7, 8, 1, 2, 3]
    assert lookup.draft(text, 2) == [6, 7]
    assert lookup.draft([*text, 6, 7], 3) == [8, 1, 2]
    assert lookup.draft([*text, 50], 3) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=NGRAM, max_size=60), st.integers(0, 7), st.integers(NGRAM, 60))
def test_a_guess_is_what_followed_the_last_tokens_before(tokens: list[int], most: int, first: int) -> None:
    lookup = Lookup()
    lookup.draft(tokens[:first], most)
    draft = lookup.draft(tokens, most)
    assert len(draft) <= most
    if draft:
        places = [at for at in range(NGRAM, len(tokens)) if tokens[at - NGRAM : at] == tokens[-NGRAM:]]
        assert draft == tokens[places[-1] :][:most]


def test_it_learns_how_often_it_is_right() -> None:
    lookup = Lookup()
    for _ in range(40):
        lookup.learn(drafted=4, accepted=0)
    assert lookup.acceptance < 0.05
    for _ in range(40):
        lookup.learn(drafted=4, accepted=4)
    assert lookup.acceptance > 0.9
