from __future__ import annotations

import itertools

import pytest

from appliance.kernel.errors import BadInput, Conflict
from appliance.registry.stages import Stage, check_step, highest, parse_stage

ALLOWED = {(Stage.NONE, Stage.DEV), (Stage.DEV, Stage.TEST), (Stage.TEST, Stage.PROD)}


@pytest.mark.parametrize(("present", "wanted"), [*itertools.product(Stage, Stage)])
def test_only_the_very_next_stage_is_reached(present: Stage, wanted: Stage) -> None:
    if (present, wanted) in ALLOWED:
        check_step("a@1", present, wanted)
    else:
        with pytest.raises(Conflict) as raised:
            check_step("a@1", present, wanted)
        assert raised.value.code == "stage.order"
        assert present is Stage.PROD or "next" in raised.value.hint


def test_the_furthest_stage_counts() -> None:
    assert highest(set()) is Stage.NONE
    assert highest({"dev", "test"}) is Stage.TEST
    assert highest({"prod", "dev"}) is Stage.PROD


@pytest.mark.parametrize("text", ["none", "", "PROD", "production"])
def test_a_stage_that_one_cannot_ask_for_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_stage(text)
