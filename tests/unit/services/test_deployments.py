from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from appliance.api import types as t
from appliance.kernel.errors import BadInput, Conflict, GateRefused, NotFound
from appliance.services import audit, deployments
from appliance.services.context import Appliance, Context
from appliance.services.records import find_model
from appliance.store.schema import models, stages
from tests.factories.appliance import context, head, imported_model, trail


@pytest.fixture
def served(ctx: Context) -> tuple[str, str, str]:
    """Three versions of one model, each with a GGUF file of its own."""
    first, second, third = (imported_model(ctx, "tiny", {"model.gguf": data}) for data in (b"1", b"2", b"3"))
    return first, second, third


def wish(ctx: Context, ref: str, *, request: str = "") -> int:
    body = t.Deploy(model=ref, override="a test", request_id=request)
    return deployments.deploy(ctx, "chat", body).revision


def serve(ctx: Context, ref: str) -> int:
    number = wish(ctx, ref)
    deployments.mark_live(ctx, number)
    return number


def states(ctx: Context) -> dict[int, str]:
    return {entry.number: entry.state for entry in deployments.show(ctx, "chat").revisions}


def test_a_wish_is_starting_until_its_engine_answered(ctx: Context, served: tuple[str, str, str]) -> None:
    before = head(ctx)
    number = wish(ctx, served[0])
    view = deployments.show(ctx, "chat")
    assert (view.state, view.model, view.revision) == ("starting", "", number)
    deployments.mark_live(ctx, number)
    view = deployments.show(ctx, "chat")
    assert (view.state, view.model, view.previous) == ("live", served[0], "")
    assert trail(ctx, since=before) == [("deployment.deploy", "intent"), ("deployment.deploy", "done")]


def test_an_override_is_recorded_with_its_reason(ctx: Context, served: tuple[str, str, str]) -> None:
    wish(ctx, served[0])
    entry = audit.page(ctx, before=0, limit=1, action="deployment.").entries[0]
    assert (entry.detail["override"], entry.detail["model"]) == ("a test", served[0])


def test_without_an_override_the_stage_and_its_gate_decide(ctx: Context, served: tuple[str, str, str]) -> None:
    before = head(ctx)
    with pytest.raises(GateRefused, match="parity not measured"):
        deployments.deploy(ctx, "chat", t.Deploy(model=served[0]))
    ctx.appliance.paths.gates.write_text("[dev]\n[test]\n[prod]\n")
    with pytest.raises(Conflict) as raised:
        deployments.deploy(ctx, "chat", t.Deploy(model=served[0]))
    assert raised.value.code == "deploy.not_in_prod"
    assert trail(ctx, since=before) == [("deployment.deploy", "refused")] * 2
    assert deployments.list_deployments(ctx) == ()


def test_a_version_at_prod_needs_no_override(ctx: Context, served: tuple[str, str, str]) -> None:
    with ctx.appliance.database.write() as connection:
        row = find_model(connection, served[0])
        values = {"model_id": row.id, "stage": "prod", "verdict": {}, "by": "", "at": ""}
        connection.execute(stages.insert().values(**values))
    assert deployments.deploy(ctx, "chat", t.Deploy(model=served[0])).state == "starting"


def test_a_version_without_gguf_is_refused(ctx: Context) -> None:
    ref = imported_model(ctx, "folder", {"model.safetensors": b"x"})
    with pytest.raises(BadInput) as raised:
        deployments.deploy(ctx, "chat", t.Deploy(model=ref, override="a test"))
    assert raised.value.code == "deploy.no_gguf"


def test_a_repeated_request_is_recognised(ctx: Context, served: tuple[str, str, str]) -> None:
    number = wish(ctx, served[0], request="r1")
    before = head(ctx)
    assert wish(ctx, served[0], request="r1") == number
    newer = wish(ctx, served[1], request="r2")
    assert wish(ctx, served[0], request="r1") == number
    assert states(ctx) == {number: "failed", newer: "starting"}
    assert len(trail(ctx, since=before)) == 2


def test_a_request_id_is_not_used_for_two_names(ctx: Context, served: tuple[str, str, str]) -> None:
    wish(ctx, served[0], request="r1")
    with pytest.raises(Conflict) as raised:
        deployments.deploy(ctx, "other", t.Deploy(model=served[0], override="a test", request_id="r1"))
    assert raised.value.code == "request.repeated"


def test_a_newer_wish_ends_the_one_that_was_starting(ctx: Context, served: tuple[str, str, str]) -> None:
    first = serve(ctx, served[0])
    before = head(ctx)
    second, third = wish(ctx, served[1]), wish(ctx, served[2])
    deployments.mark_live(ctx, second)
    assert states(ctx) == {first: "live", second: "failed", third: "starting"}
    deployments.mark_live(ctx, third)
    assert states(ctx) == {first: "superseded", second: "failed", third: "live"}
    assert deployments.show(ctx, "chat").previous == served[0]
    assert [phase for _, phase in trail(ctx, since=before)] == ["intent", "failed", "intent", "done"]


def test_a_failed_start_leaves_what_was_live(ctx: Context, served: tuple[str, str, str]) -> None:
    first, second = serve(ctx, served[0]), wish(ctx, served[1])
    deployments.mark_failed(ctx, second, "no memory")
    deployments.mark_live(ctx, second)
    view = deployments.show(ctx, "chat")
    assert (view.state, view.model) == ("failed", served[0])
    assert states(ctx) == {first: "live", second: "failed"}
    assert view.revisions[0].reason == "no memory"


def test_asking_for_what_is_live_answers_with_the_live_revision(ctx: Context, served: tuple[str, str, str]) -> None:
    """Also after another version failed to start, whose revision is newer."""
    first, second = serve(ctx, served[0]), wish(ctx, served[1])
    deployments.mark_failed(ctx, second, "no memory")
    before = head(ctx)
    assert wish(ctx, served[0]) == first
    assert trail(ctx, since=before) == []


def test_what_was_taken_back_stays_back(ctx: Context, served: tuple[str, str, str]) -> None:
    serve(ctx, served[0])
    serve(ctx, served[1])
    before = head(ctx)
    number = deployments.roll_back(ctx, "chat", t.RollBack()).revision
    deployments.mark_live(ctx, number)
    view = deployments.show(ctx, "chat")
    assert (view.model, view.previous) == (served[0], "")
    assert trail(ctx, since=before) == [("deployment.rollback", "intent"), ("deployment.rollback", "done")]
    with pytest.raises(Conflict) as raised:
        deployments.roll_back(ctx, "chat", t.RollBack())
    assert raised.value.code == "rollback.nothing_before"


def test_each_rollback_goes_one_version_further_back(ctx: Context, served: tuple[str, str, str]) -> None:
    for ref in served:
        serve(ctx, ref)
    deployments.mark_live(ctx, deployments.roll_back(ctx, "chat", t.RollBack()).revision)
    view = deployments.show(ctx, "chat")
    assert (view.model, view.previous) == (served[1], served[0])
    deployments.mark_live(ctx, deployments.roll_back(ctx, "chat", t.RollBack()).revision)
    assert deployments.show(ctx, "chat").model == served[0]


def test_a_rollback_that_cannot_start_is_recorded_as_one(ctx: Context, served: tuple[str, str, str]) -> None:
    serve(ctx, served[0])
    serve(ctx, served[1])
    number = deployments.roll_back(ctx, "chat", t.RollBack()).revision
    before = head(ctx)
    deployments.mark_failed(ctx, number, "no memory")
    assert trail(ctx, since=before) == [("deployment.rollback", "failed")]


def test_a_repeated_rollback_goes_back_once(ctx: Context, served: tuple[str, str, str]) -> None:
    serve(ctx, served[0])
    serve(ctx, served[1])
    number = deployments.roll_back(ctx, "chat", t.RollBack(request_id="r1")).revision
    deployments.mark_live(ctx, number)
    assert deployments.roll_back(ctx, "chat", t.RollBack(request_id="r1")).revision == number
    assert deployments.show(ctx, "chat").model == served[0]


def test_a_version_that_never_answered_is_not_returned_to(ctx: Context, served: tuple[str, str, str]) -> None:
    serve(ctx, served[0])
    deployments.mark_failed(ctx, wish(ctx, served[2]), "no memory")
    serve(ctx, served[1])
    assert deployments.show(ctx, "chat").previous == served[0]


def test_there_is_nothing_before_the_first_version(ctx: Context, served: tuple[str, str, str]) -> None:
    with pytest.raises(NotFound):
        deployments.roll_back(ctx, "chat", t.RollBack())
    serve(ctx, served[0])
    with pytest.raises(Conflict) as raised:
        deployments.roll_back(ctx, "chat", t.RollBack())
    assert raised.value.code == "rollback.nothing_before"


def test_a_removed_name_is_gone_and_begins_anew(ctx: Context, served: tuple[str, str, str]) -> None:
    serve(ctx, served[0])
    live, starting = serve(ctx, served[1]), wish(ctx, served[2])
    before = head(ctx)
    deployments.remove(ctx, "chat")
    assert trail(ctx, since=before) == [("deployment.remove", "done")]
    with pytest.raises(NotFound):
        deployments.show(ctx, "chat")
    deployments.mark_live(ctx, starting)
    assert deployments.list_deployments(ctx) == ()
    assert serve(ctx, served[1]) not in (live, starting)
    view = deployments.show(ctx, "chat")
    assert (view.state, view.model, view.previous) == ("live", served[1], "")
    assert [entry.state for entry in view.revisions] == ["live", "retired", "retired", "retired"]


def test_the_live_revision_is_shown_however_many_failed_after_it(ctx: Context, served: tuple[str, str, str]) -> None:
    first = serve(ctx, served[0])
    for _ in range(25):
        deployments.mark_failed(ctx, wish(ctx, served[1]), "no memory")
    view = deployments.show(ctx, "chat")
    assert [entry.number for entry in view.revisions if entry.state == "live"] == [first]


def test_who_wished_is_told_who_made_it_so_is_not(appliance: Appliance, served: tuple[str, str, str]) -> None:
    number = wish(context(appliance, user="olga"), served[0])
    deployments.mark_live(context(appliance, user="intramurosd"), number)
    view = deployments.show(context(appliance), "chat")
    assert view.revisions[0].by == "olga"


def test_an_override_whose_reason_reads_rollback_is_recorded_as_a_deployment(
    ctx: Context, served: tuple[str, str, str]
) -> None:
    before = head(ctx)
    body = t.Deploy(model=served[0], override="rollback")
    deployments.mark_live(ctx, deployments.deploy(ctx, "chat", body).revision)
    assert trail(ctx, since=before) == [("deployment.deploy", "intent"), ("deployment.deploy", "done")]


def options(ctx: Context, number: int) -> t.ServingOptions:
    return next(entry.options for entry in deployments.show(ctx, "chat").revisions if entry.number == number)


def deploy_as(ctx: Context, ref: str, **change: Any) -> int:
    body = t.Deploy(model=ref, override="a test", options=t.OptionsChange(**change))
    number = deployments.deploy(ctx, "chat", body).revision
    deployments.mark_live(ctx, number)
    return number


def test_options_are_kept_from_version_to_version_and_come_back_with_a_rollback(
    ctx: Context, served: tuple[str, str, str]
) -> None:
    first = deploy_as(ctx, served[0], threads=2, context=512, gpu_layers=20)
    second = deploy_as(ctx, served[1], threads=3, gpu_layers=0)
    assert (options(ctx, first).threads, options(ctx, second)) == (
        2,
        t.ServingOptions(kind="generate", threads=3, context=512, gpu_layers=0),
    )
    back = deployments.roll_back(ctx, "chat", t.RollBack()).revision
    assert options(ctx, back) == options(ctx, first)
    assert options(ctx, back).gpu_layers == 20


def test_another_option_is_another_revision_and_the_same_ones_are_not(
    ctx: Context, served: tuple[str, str, str]
) -> None:
    first = deploy_as(ctx, served[0], threads=2)
    assert deploy_as(ctx, served[0], threads=2) == first
    assert deploy_as(ctx, served[0], threads=4) == first + 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"threads": -1}, "deploy.options"),
        ({"threads": 5000}, "deploy.options"),
        ({"context": 3}, "deploy.options"),
        ({"memory_limit": 1000}, "deploy.options"),
        ({"shortens": True}, "deploy.options"),
        ({"gpu_layers": -2}, "deploy.options"),
        ({"gpu_layers": 10_000}, "deploy.options"),
        ({"categories": {"a": "b"}}, "deploy.options"),
        ({"kind": "classify"}, "deploy.kind"),
        ({"kind": "dance"}, "deploy.kind"),
    ],
)
def test_impossible_options_are_refused_and_nothing_is_recorded(
    ctx: Context, served: tuple[str, str, str], change: dict[str, Any], code: str
) -> None:
    before = head(ctx)
    with pytest.raises(BadInput) as refused:
        deploy_as(ctx, served[0], **change)
    assert refused.value.code == code
    assert head(ctx) == before
    assert deployments.list_deployments(ctx) == ()


def test_what_marks_spans_is_not_deployed_as_something_else(ctx: Context, served: tuple[str, str, str]) -> None:
    with ctx.appliance.database.write() as connection:
        connection.execute(update(models).values(description={"head": "BertForTokenClassification"}))
    for kind in (None, "embed"):
        with pytest.raises(BadInput, match="marks spans") as refused:
            deploy_as(ctx, served[0], kind=kind)
        assert refused.value.code == "deploy.kind"


def test_a_policy_changes_without_a_revision_and_is_recorded_once(ctx: Context, served: tuple[str, str, str]) -> None:
    serve(ctx, served[0])
    before = head(ctx)
    view = deployments.set_policy(ctx, "chat", t.PolicyChange(pinned=True))
    assert (view.policy, len(view.revisions)) == (t.Policy(pinned=True), 1)
    deployments.set_policy(ctx, "chat", t.PolicyChange(pinned=True))
    assert trail(ctx, since=before) == [("deployment.policy", "done")]
    with pytest.raises(BadInput):
        deployments.set_policy(ctx, "chat", t.PolicyChange(idle_timeout=-1))
    with pytest.raises(NotFound):
        deployments.set_policy(ctx, "absent", t.PolicyChange(pinned=True))


def test_a_name_that_is_served_again_begins_without_its_old_policy(ctx: Context, served: tuple[str, str, str]) -> None:
    serve(ctx, served[0])
    deployments.set_policy(ctx, "chat", t.PolicyChange(pinned=True))
    deployments.remove(ctx, "chat")
    serve(ctx, served[0])
    assert deployments.show(ctx, "chat").policy == t.Policy()


def test_a_plan_says_what_would_be_served_and_records_nothing(ctx: Context, served: tuple[str, str, str]) -> None:
    before = head(ctx)
    planned = deployments.planned(ctx, "chat", t.PlanDeploy(model="tiny", options=t.OptionsChange(context=64)))
    assert (planned.ref, planned.options.context, planned.artifact.size) == (served[2], 64, 1)
    assert head(ctx) == before
    with pytest.raises(NotFound):
        deployments.planned(ctx, "chat", t.PlanDeploy(model="absent"))
