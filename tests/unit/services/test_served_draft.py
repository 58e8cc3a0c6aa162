from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from appliance.api import types as t
from appliance.kernel.errors import BadInput, Conflict, NotFound
from appliance.services import deployments
from appliance.services import models as service
from appliance.services.context import Context
from appliance.services.records import find_model
from appliance.services.served_draft import draft_description
from appliance.store.schema import models
from tests.factories.appliance import imported_model, trail


@pytest.fixture
def base(ctx: Context) -> str:
    return imported_model(ctx, "base", {"model.gguf": b"base"})


@pytest.fixture
def small(ctx: Context) -> str:
    return imported_model(ctx, "small", {"model.gguf": b"small"})


def describe(ctx: Context, ref: str, **more: Any) -> None:
    with ctx.appliance.database.write() as connection:
        row = find_model(connection, ref)
        values = {**row.description, **more}
        connection.execute(update(models).where(models.c.id == row.id).values(description=values))


def deploy(ctx: Context, ref: str, **options: Any) -> t.DeploymentView:
    body = t.Deploy(model=ref, override="a test", options=t.OptionsChange(**options))
    view = deployments.deploy(ctx, "chat", body)
    deployments.mark_live(ctx, view.revision)
    return deployments.show(ctx, "chat")


def draft_of(view: t.DeploymentView) -> str:
    served = next(entry.options.draft for entry in view.revisions if entry.state == "live")
    return served.ref if served is not None else ""


def test_a_draft_model_stays_until_it_is_taken_away(ctx: Context, base: str, small: str) -> None:
    assert draft_of(deploy(ctx, base, draft=small)) == small
    assert draft_of(deploy(ctx, base, context=4096)) == small
    assert draft_of(deploy(ctx, base, draft="")) == ""
    assert ("deployment.deploy", "intent") in trail(ctx)


def test_what_a_deployment_lets_guess_cannot_be_removed(ctx: Context, base: str, small: str) -> None:
    deploy(ctx, base, draft=small)
    with pytest.raises(Conflict, match="deployment chat") as refused:
        service.remove(ctx, small)
    assert refused.value.code == "model.in_use"
    deploy(ctx, base, draft="")
    with pytest.raises(Conflict):  # a roll-back would bring it back
        service.remove(ctx, small)
    deployments.remove(ctx, "chat")
    service.remove(ctx, small)


def test_what_cannot_guess_is_refused_before_anything_changes(ctx: Context, base: str, small: str) -> None:
    folder = imported_model(ctx, "folder", {"config.json": b"{}"})
    describe(ctx, base, vocabulary=32000)
    other = imported_model(ctx, "other", {"model.gguf": b"other"})
    describe(ctx, other, vocabulary=152000)
    ranks = imported_model(ctx, "ranks", {"model.gguf": b"ranks"})
    describe(ctx, ranks, pooling="rank")
    wrong = {"no GGUF file": folder, "another vocabulary": other, "must generate": ranks}
    for said, ref in wrong.items():
        with pytest.raises(BadInput, match=said) as refused:
            deploy(ctx, base, draft=ref)
        assert refused.value.code == "deploy.draft"
    with pytest.raises(NotFound):
        deploy(ctx, base, draft="absent@3")
    with pytest.raises(BadInput) as encodes:
        deploy(ctx, base, kind="embed", draft=small)
    assert encodes.value.code == "deploy.options"
    assert deployments.list_deployments(ctx) == ()


def test_padding_does_not_make_another_vocabulary(ctx: Context, base: str, small: str) -> None:
    describe(ctx, base, vocabulary=152064)
    describe(ctx, small, vocabulary=151936)
    assert draft_of(deploy(ctx, base, draft=small)) == small


def test_a_plan_knows_the_shape_of_the_draft_model(ctx: Context, base: str, small: str) -> None:
    describe(ctx, small, layers=7)
    body = t.PlanDeploy(model=base, options=t.OptionsChange(draft=small))
    assert deployments.planned(ctx, "chat", body).draft["layers"] == 7
    with ctx.appliance.database.read() as connection:
        assert draft_description(connection, None) == {}


def test_a_roll_back_takes_the_options_that_were_served_not_those_that_failed(
    ctx: Context, base: str, small: str
) -> None:
    deploy(ctx, base)
    failed = deployments.deploy(
        ctx, "chat", t.Deploy(model=base, override="a test", options=t.OptionsChange(draft=small))
    )
    deployments.mark_failed(ctx, failed.revision, "another vocabulary")
    deploy(ctx, small)
    deployments.mark_live(ctx, deployments.roll_back(ctx, "chat", t.RollBack()).revision)
    view = deployments.show(ctx, "chat")
    assert (view.model, draft_of(view)) == (base, "")
