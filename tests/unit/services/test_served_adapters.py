from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from appliance.api import types as t
from appliance.daemon.gateway_unit import build_table
from appliance.kernel.errors import BadInput, Conflict
from appliance.services import deployments
from appliance.services import models as service
from appliance.services.context import Context
from appliance.services.records import find_model
from appliance.services.served_adapters import FILE
from appliance.store.schema import models
from tests.factories.appliance import imported_model


@pytest.fixture
def base(ctx: Context) -> str:
    return imported_model(ctx, "base", {"model.gguf": b"base"})


def tuned(ctx: Context, base: str, name: str, *, files: dict[str, bytes] | None = None) -> str:
    """A version whose lineage says that it was trained on `base`, with an adapter beside it."""
    ref = imported_model(ctx, name, {"model.gguf": name.encode(), **(files or {FILE: b"adapter"})})
    with ctx.appliance.database.write() as connection:
        given = {"ref": base, "digest": find_model(connection, base).weights_digest}
        row = find_model(connection, ref)
        connection.execute(
            update(models).where(models.c.id == row.id).values(lineage={**row.lineage, "base": given, "runs": []})
        )
    return ref


def deploy(ctx: Context, ref: str, override: str = "a test", **options: Any) -> t.DeploymentView:
    body = t.Deploy(model=ref, override=override, options=t.OptionsChange(**options))
    view = deployments.deploy(ctx, "chat", body)
    deployments.mark_live(ctx, view.revision)
    return deployments.show(ctx, "chat")


def adapters(view: t.DeploymentView) -> dict[str, str]:
    options = next(entry.options for entry in view.revisions if entry.number == view.revision)
    return {label: entry.ref for label, entry in options.adapters.items()}


def test_each_adapter_is_a_name_of_its_own_on_the_same_engine(ctx: Context, base: str) -> None:
    law, care = tuned(ctx, base, "law"), tuned(ctx, base, "care", files={FILE: b"other"})
    view = deploy(ctx, base, adapters={"law": law, "care": care})
    assert adapters(view) == {"care": care, "law": law}
    routes = build_table(ctx).routes
    assert {name: (route.adapter, route.model_ref) for name, route in routes.items()} == {
        "chat": ("", base),
        "chat:care": ("care", care),
        "chat:law": ("law", law),
    }
    assert len({(route.revision, route.socket) for route in routes.values()}) == 1


def test_adapters_stay_until_they_are_taken_away(ctx: Context, base: str) -> None:
    deploy(ctx, base, adapters={"law": tuned(ctx, base, "law")})
    assert adapters(deploy(ctx, base, context=4096)) == {"law": "law@1"}
    assert adapters(deploy(ctx, base, adapters={})) == {}


def test_a_served_adapter_cannot_be_removed(ctx: Context, base: str) -> None:
    law = tuned(ctx, base, "law")
    deploy(ctx, base, adapters={"law": law})
    with pytest.raises(Conflict, match="deployment chat") as refused:
        service.remove(ctx, law)
    assert refused.value.code == "model.in_use"


def test_what_does_not_fit_is_refused(ctx: Context, base: str) -> None:
    other = imported_model(ctx, "other", {"model.gguf": b"other"})
    wrong = {
        "trained on other weights": {"law": tuned(ctx, other, "foreign")},
        "no adapter that can be served": {"law": tuned(ctx, base, "bare", files={"adapter/adapter.safetensors": b"x"})},
        "too many": {f"a{number}": base for number in range(17)},
    }
    for said, asked in wrong.items():
        with pytest.raises(BadInput, match=said) as refused:
            deploy(ctx, base, adapters=asked)
        assert refused.value.code == "deploy.adapter"
    assert deployments.list_deployments(ctx) == ()


def test_an_adapter_needs_the_stage_of_a_model(ctx: Context, base: str) -> None:
    with pytest.raises(Conflict, match="law@1 is at none"):
        deploy(ctx, base, override="", adapters={"law": tuned(ctx, base, "law")})
