from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.lanes import BASE, Lanes


def test_a_lane_keeps_its_slice_and_then_gives_way() -> None:
    lanes = Lanes(slice=0.2)
    turns = []
    for _ in range(6):
        turns.append(lanes.turn({BASE, "law"}))
        lanes.spend(0.1)
    assert turns == [BASE, BASE, "law", "law", BASE, BASE]


def test_an_only_lane_goes_on_beyond_its_slice() -> None:
    lanes = Lanes(slice=0.2)
    for _ in range(9):
        assert lanes.turn({"law"}) == "law"
        lanes.spend(0.1)
    assert lanes.turn({"law", BASE}) == BASE  # who comes does not wait for a slice that was used long ago


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), max_size=60), st.floats(0.01, 1))
def test_nobody_waits_longer_than_the_slices_of_the_others(steps: list[set[str]], seconds: float) -> None:
    """A lane that stays busy is passed over by each other lane for one slice at most."""
    lanes = Lanes(slice=0.3)
    waited: dict[str, float] = {}
    for busy in steps:
        turn = lanes.turn(busy)
        assert turn in busy
        lanes.spend(seconds)
        waited = {lane: waited.get(lane, 0.0) + seconds for lane in busy - {turn}}
        assert all(time <= 3 * (0.3 + seconds) + 1e-9 for time in waited.values())
