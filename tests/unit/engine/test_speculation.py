from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.speculation import (
    MOST_DRAFTED,
    Acceptance,
    Expectation,
    Offer,
    best_offer,
    repays,
    worthwhile,
)
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


def test_it_learns_how_often_it_is_right() -> None:
    acceptance = Acceptance()
    for _ in range(40):
        acceptance.learn(drafted=4, accepted=0)
    assert acceptance.rate < 0.05
    for _ in range(40):
        acceptance.learn(drafted=4, accepted=4)
    assert acceptance.rate > 0.9


def test_what_is_expected_falls_with_wrong_guesses_and_comes_back_with_new_requests() -> None:
    expectation = Expectation()
    assert expectation.begin().rate == pytest.approx(0.7)
    for _ in range(40):
        expectation.learn(drafted=3, accepted=0)
    assert expectation.begin().rate < 0.05
    rates = [expectation.begin().rate for _ in range(100)]
    assert rates == sorted(rates)
    assert rates[-1] > 0.5


CHEAP = StepCost(curve={1: 0.001, 64: 0.002})
DEAR = StepCost(curve={1: 0.012, 64: 0.020})


def test_a_draft_model_is_used_where_its_own_time_leaves_a_gain() -> None:
    offer = best_offer(FLAT, CHEAP, rows=1, tokens=1, acceptances=[0.8], room=7)
    assert (offer.streams, offer.count >= 3, offer.saved > 0) == (1, True, True)
    assert best_offer(FLAT, DEAR, rows=1, tokens=1, acceptances=[0.99], room=7) == Offer()
    assert best_offer(STEEP, CHEAP, rows=1, tokens=1, acceptances=[0.8], room=7) == Offer()
    assert best_offer(FLAT, CHEAP, rows=1, tokens=1, acceptances=[0.02], room=7) == Offer()
    assert best_offer(FLAT, CHEAP, rows=1, tokens=1, acceptances=[], room=7) == Offer()


def test_streams_for_which_it_is_mostly_wrong_are_left_out() -> None:
    offer = best_offer(FLAT, CHEAP, rows=4, tokens=4, acceptances=[0.9, 0.9, 0.05, 0.05], room=30)
    assert offer.streams == 2


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=16).map(lambda rates: sorted(rates, reverse=True)),
    st.integers(0, 40),
    st.sampled_from([FLAT, STEEP]),
    st.sampled_from([CHEAP, DEAR]),
)
def test_an_offer_is_faster_than_none_and_fits(
    acceptances: list[float], room: int, cost: StepCost, draft: StepCost
) -> None:
    rows = len(acceptances)
    offer = best_offer(cost, draft, rows=rows, tokens=rows, acceptances=acceptances, room=room)
    assert offer.streams * offer.count <= room
    assert offer.count <= MOST_DRAFTED
    if offer.count:
        chosen = acceptances[: offer.streams]
        tokens = rows + sum(rate**power for rate in chosen for power in range(1, offer.count + 1))
        seconds = cost.rows(rows + offer.streams * offer.count) + offer.count * draft.rows(offer.streams)
        assert tokens / seconds > rows / cost.rows(rows)
        assert offer.saved == pytest.approx(cost.rows(rows) / rows - seconds / tokens)


def test_a_long_text_is_computed_again_only_for_a_long_answer() -> None:
    draft = StepCost(token=0.001)
    assert repays(draft, lacking=100, coming=1000, saved=0.005)
    assert not repays(draft, lacking=100, coming=20, saved=0.005)
