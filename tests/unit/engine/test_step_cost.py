from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.step_cost import StepCost

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
