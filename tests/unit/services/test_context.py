from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.access.roles import Role
from appliance.api import types as t
from appliance.kernel.errors import Forbidden
from appliance.services import audit, dataset_jobs, dataset_rows, datasets, deployments, jobs, keys, models, promotion
from appliance.services.context import Appliance, Context, Doorbell
from tests.factories.appliance import WEIGHTS, context, head, imported_dataset, imported_model, trail

NOBODY = frozenset[Role]()


@pytest.mark.parametrize("action", ["model.remove", "key.create", "audit.read", "deployment.override"])
def test_a_caller_without_the_role_is_refused_and_recorded(appliance: Appliance, ctx: Context, action: str) -> None:
    mallory = context(appliance, user="mallory", roles=NOBODY)
    before = head(ctx)
    with pytest.raises(Forbidden) as raised:
        mallory.authorise(action, "something")
    assert raised.value.code == "access.role"
    assert trail(ctx, since=before) == [(action, "refused")]
    entry = audit.page(ctx, before=0, limit=1, action="").entries[0]
    assert (entry.actor, entry.target, entry.detail) == ("mallory", "something", {"why": "role"})


def test_every_service_that_changes_something_asks_for_the_role_first(appliance: Appliance, ctx: Context) -> None:
    ref = imported_model(ctx, "tiny", WEIGHTS)
    data = imported_dataset(ctx)
    mallory = context(appliance, user="mallory", roles=NOBODY)
    changes: dict[str, Callable[[], object]] = {
        "model.import": lambda: models.import_model(mallory, t.ImportModel(source="/x", name="x")),
        "model.register": lambda: models.register(mallory, t.RegisterModel(name="x", run="x")),
        "model.remove": lambda: models.remove(mallory, ref),
        "model.promote": lambda: promotion.promote(mallory, ref, t.Promote(stage="dev")),
        "model.approve": lambda: promotion.approve(mallory, ref, t.Approve(stage="dev")),
        "approver.enrol": lambda: promotion.enrol(mallory, t.EnrolApprover(name="x", public_key="")),
        "dataset.import": lambda: datasets.import_dataset(mallory, t.ImportDataset(source="/x", name="x")),
        "dataset.check": lambda: dataset_jobs.check(mallory, "x", t.CheckDataset()),
        "dataset.split": lambda: dataset_jobs.split(mallory, "x", t.SplitDataset()),
        "dataset.generate": lambda: dataset_jobs.generate(mallory, t.GenerateDataset(name="x", model="x")),
        "dataset.read": lambda: dataset_rows.page(mallory, "x", part="train", after=0, limit=1),
        "dataset.remove": lambda: datasets.remove(mallory, data),
        "job.submit": lambda: jobs.submit(mallory, t.SubmitJob(kind="evaluate", inputs={})),
        "deployment.deploy": lambda: deployments.deploy(mallory, "x", t.Deploy(model=ref)),
        "deployment.rollback": lambda: deployments.roll_back(mallory, "x", t.RollBack()),
        "key.create": lambda: keys.create(mallory, t.CreateKey(name="x")),
        "key.revoke": lambda: keys.revoke(mallory, "x"),
        "audit.export": lambda: audit.export(mallory),
    }
    before = head(ctx)
    for change in changes.values():
        with pytest.raises(Forbidden):
            change()
    assert trail(ctx, since=before) == [(action, "refused") for action in changes]


def test_an_override_needs_a_role_of_its_own(appliance: Appliance, ctx: Context) -> None:
    ref = imported_model(ctx, "tiny", {"model.gguf": b"gguf"})
    operator = context(appliance, user="olga", roles=frozenset({Role.OPERATOR}))
    with pytest.raises(Forbidden):
        deployments.deploy(operator, "x", t.Deploy(model=ref, override="because"))
    assert deployments.list_deployments(ctx) == ()


def test_an_administrator_alone_cannot_approve(appliance: Appliance, ctx: Context) -> None:
    ref = imported_model(ctx, "tiny", WEIGHTS)
    with pytest.raises(Forbidden) as raised:
        promotion.approve(context(appliance, user="root", roles=frozenset({Role.ADMIN})), ref, t.Approve(stage="dev"))
    assert raised.value.code == "access.role"


def test_the_doorbell_wakes_every_listener() -> None:
    doorbell = Doorbell()
    woken: list[str] = []
    doorbell.listen(lambda: woken.append("jobs"))
    doorbell.listen(lambda: woken.append("deployments"))
    doorbell.ring()
    assert woken == ["jobs", "deployments"]
