"""Which boxes a run needs, and what each has for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.fleet.wire import BoxFacts
from appliance.jobs.spec import InputRef, JobKind
from appliance.kernel.errors import BadInput, Unavailable
from appliance.kernel.settings import Settings
from appliance.services import fleet, jobs
from appliance.services.context import Context
from appliance.services.planning import plan_of_job
from appliance.training.recipes.full import FullRecipe
from tests.factories.appliance import context, open_test_appliance

INVENTORY = """own = "alpha"
[[boxes]]
name = "alpha"
address = "10.77.0.1"
[[boxes]]
name = "beta"
address = "10.77.0.2"
[[boxes]]
name = "gamma"
address = "10.77.0.3"
"""
GIB = 1 << 30


@pytest.fixture
def in_fleet(tmp_path: Path) -> Iterator[Context]:
    (tmp_path / "fleet.toml").write_text(INVENTORY)
    (tmp_path / "sockets").mkdir()
    settings = Settings(fleet=str(tmp_path / "fleet.toml"), rank_sockets=str(tmp_path / "sockets"))
    appliance = open_test_appliance(tmp_path / "state", settings=settings)
    yield context(appliance)
    appliance.database.close()


def facts(ctx: Context, name: str, *, free: int, held: int = 0, code: str = "") -> BoxFacts:
    return BoxFacts(
        name=name,
        version="0.1.0",
        code=code or ctx.appliance.code_digest,
        packages={},
        cpu="a processor",
        threads=8,
        memory=20 * GIB,
        memory_available=free,
        running=1 if held else 0,
        held=held,
    )


@pytest.fixture
def answering(in_fleet: Context, monkeypatch: pytest.MonkeyPatch) -> dict[str, BoxFacts]:
    """The boxes that answer; the others do not."""
    answers = {
        "alpha": facts(in_fleet, "alpha", free=9 * GIB),
        "beta": facts(in_fleet, "beta", free=4 * GIB, held=3 * GIB),
    }

    def ask(_ctx: Context, box: str) -> BoxFacts:
        if box not in answers:
            raise Unavailable("fleet.unreachable", f"The rank host of box {box} does not answer.")
        return answers[box]

    monkeypatch.setattr(fleet, "ask", ask)
    return answers


def test_every_box_is_listed_this_one_first_and_says_why_it_is_not_ready(
    in_fleet: Context, answering: dict[str, BoxFacts]
) -> None:
    answering["beta"] = facts(in_fleet, "beta", free=GIB, code="another")
    found = fleet.list_boxes(in_fleet)
    assert [(box.name, box.own, box.reachable, box.same_version) for box in found] == [
        ("alpha", True, True, True),
        ("beta", False, True, False),
        ("gamma", False, False, False),
    ]
    assert "gamma does not answer" in found[2].problem


def test_a_box_in_no_fleet_lists_none_and_refuses_a_recipe_that_names_one(ctx: Context) -> None:
    assert fleet.list_boxes(ctx) == ()
    assert not fleet.trained_by_rank_hosts(ctx, FullRecipe(ranks=2))
    with pytest.raises(Unavailable) as refused:
        fleet.trained_by_rank_hosts(ctx, FullRecipe(boxes=("beta",)))
    assert refused.value.code == "fleet.none"


@pytest.mark.parametrize(
    ("recipe", "available"),
    [
        (FullRecipe(ranks=2), 5 * GIB),
        (FullRecipe(boxes=("beta",)), 6 * GIB),
        (FullRecipe(ranks=2, boxes=("alpha", "beta")), 5 * GIB),
    ],
)
def test_what_a_run_may_have_is_that_of_the_box_with_least(
    in_fleet: Context, answering: dict[str, BoxFacts], recipe: FullRecipe, available: int
) -> None:
    """A twentieth of a box stays free, and what its runs hold is free when they have ended."""
    assert fleet.trained_by_rank_hosts(in_fleet, recipe)
    assert fleet.least_available(in_fleet, recipe, here=lambda: 5 * GIB) == available


def test_a_box_that_is_away_or_unknown_is_named(in_fleet: Context, answering: dict[str, BoxFacts]) -> None:
    with pytest.raises(Unavailable, match="gamma does not answer"):
        fleet.least_available(in_fleet, FullRecipe(ranks=2, boxes=("alpha", "gamma")), here=lambda: GIB)
    with pytest.raises(BadInput, match="no box delta"):
        fleet.least_available(in_fleet, FullRecipe(boxes=("delta",)), here=lambda: GIB)


def test_the_queue_leaves_the_memory_of_a_run_on_rank_hosts_to_them(in_fleet: Context) -> None:
    inputs: dict[str, InputRef] = {}
    spec = jobs.spec_of(in_fleet, JobKind.TRAIN_FULL, inputs, {"ranks": 2}, seed=1)
    assert plan_of_job(in_fleet, spec) is None
