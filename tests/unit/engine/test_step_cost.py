from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.step_cost import TILE, Attention, StepCost

CURVE = {1: 0.02, 2: 0.03, 8: 0.06}


def test_the_curve_is_read_between_its_points_and_beyond() -> None:
    cost = StepCost(curve=dict(CURVE))
    assert [round(cost.rows(rows), 4) for rows in (0, 1, 2, 5, 8, 16)] == [0, 0.02, 0.03, 0.045, 0.06, 0.12]


def test_it_learns_from_steps() -> None:
    cost = StepCost(curve=dict(CURVE))
    for _ in range(60):
        cost.observe(rows=4, prompt_tokens=0, seconds=0.05)
        cost.observe(rows=4, prompt_tokens=100, seconds=0.25)
    assert abs(cost.rows(4) - 0.05) < 0.001
    assert abs(cost.token - 0.002) < 0.0001
    assert abs(cost.chunk(0.2, rows=4) - 75) <= 2
    assert abs(cost.chunk(0.2, rows=0) - 100) <= 2


def test_a_target_that_is_missed_already_leaves_nothing() -> None:
    assert StepCost(token=0.001, curve={1: 9.0}).chunk(0.2, rows=1) < 0


def test_a_step_is_filled_up_where_single_rows_cost_more_than_a_tile() -> None:
    cost = StepCost(token=0.001, attention=Attention(row=7e-6, tile=6e-5))
    assert cost.missing([(60, 1000)], micro=512) == TILE - 60
    assert cost.missing([(1, 300), (1, 300), (40, 1000)], micro=512) == TILE - 42
    assert cost.missing([(60, 0)], micro=512) == 0  # nothing before them
    assert cost.missing([(1, 1000)] * 16, micro=512) == 0  # a tile for each stream
    assert cost.missing([(TILE, 1000)], micro=512) == 0
    assert cost.missing([(540, 800)], micro=512) == TILE - 28
    assert cost.missing([], micro=512) == 0
    assert cost.missing([(20, 1000)], micro=32) == 0  # such micro-batches never make a tile
    assert StepCost(token=0.001).missing([(60, 1000)], micro=512) == 0


def test_rows_that_would_begin_a_tile_wait_where_that_is_faster() -> None:
    cost = StepCost(token=0.001, curve={1: 0.02}, attention=Attention(row=7e-6, tile=6e-5))
    streams = [(1, 100)] * 6
    assert cost.surplus([*streams, (130, 1500)], micro=512) == 136 - 128
    assert cost.surplus([*streams, (122, 1500)], micro=512) == 0  # whole tiles
    assert cost.surplus([*streams, (180, 1500)], micro=512) == 0  # nearly a whole one more
    assert cost.surplus([*streams, (130, 10)], micro=512) == 0  # a tile costs little there
    assert cost.surplus([*streams, (40, 1500)], micro=512) == 0  # no tile at all
    assert cost.surplus([], micro=512) == 0
    assert StepCost(curve={1: 0.02}).surplus([*streams, (130, 1500)], micro=512) == 0


def test_a_prompt_gets_fewer_tokens_the_more_stands_before_them() -> None:
    cost = StepCost(token=0.001, curve={1: 0.02}, attention=Attention(row=1e-4, tile=64e-6))
    assert cost.chunk(0.2, rows=0, depth=1000) == 97  # 0.001 + 1000 x 1e-6 for each, and what they have before them
    assert StepCost(token=0.001, curve={1: 0.02}).chunk(0.2, rows=0, depth=1000) == 200


def test_a_prompt_gets_a_few_more_tokens_where_they_fill_a_tile() -> None:
    cost = StepCost(token=0.001, curve={1: 0.02}, attention=Attention(row=1e-4, tile=1e-9))
    assert cost.chunk(0.2, rows=1) == 191  # not 179
    assert cost.chunk(0.1, rows=1) == 79  # 127 would be far too many


def test_it_tells_the_price_of_depth_from_that_of_a_token() -> None:
    cost = StepCost(token=0.002, curve={1: 0.0}, attention=Attention(row=1e-4, tile=1e-5))
    for turn in range(400):
        depth = 3000 * (turn % 2)
        seconds = 128 * 0.001 + 2 * depth * 5e-5
        cost.observe(rows=0, prompt_tokens=128, seconds=seconds, pieces=[(128, depth)])
    assert abs(cost.token - 0.001) < 0.0001
    assert abs(cost.chunk(0.3, rows=0, depth=3000) - 88) <= 2


def test_a_suspended_machine_says_little() -> None:
    cost = StepCost(token=0.001, curve={1: 0.02})
    cost.observe(rows=0, prompt_tokens=100, seconds=3600.0)
    assert cost.token < 0.002


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 600), st.floats(0, 100)), max_size=40), st.integers(0, 100)
)
def test_predictions_stay_sane(steps: list[tuple[int, int, float]], rows: int) -> None:
    cost = StepCost(curve=dict(CURVE))
    for streams, prompt, seconds in steps:
        cost.observe(rows=streams, prompt_tokens=prompt, seconds=seconds)
    assert cost.rows(rows) >= 0
    assert cost.token >= 0
    assert cost.chunk(1.0, rows=0) >= 0


def test_a_suspended_machine_says_little_about_the_curve() -> None:
    cost = StepCost(curve={1: 0.05, 16: 0.08})
    cost.observe(rows=1, prompt_tokens=0, seconds=30.0)
    assert 0.05 < cost.rows(1) < 0.1


def test_beyond_the_curve_an_error_is_shared_out() -> None:
    cost = StepCost(curve={1: 0.05, 16: 0.08})
    for _ in range(60):
        cost.observe(rows=320, prompt_tokens=0, seconds=3.2)
        assert cost.rows(320) < 3.3
    assert cost.rows(320) == pytest.approx(3.2, rel=0.01)


def test_less_than_a_tile_of_a_deep_prompt_costs_all_of_it() -> None:
    cost = StepCost(token=0.001, curve={1: 0.03}, attention=Attention(tile=1e-5))
    assert cost.piece(0.05, depth=0) == 50
    assert cost.piece(0.05, depth=10_000) == 0
    assert cost.piece(0.5, depth=10_000) == pytest.approx(0.5 / cost.price(10_000), abs=1)
