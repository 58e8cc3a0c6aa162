from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, update

from appliance.access.roles import Role
from appliance.api import types as t
from appliance.kernel.errors import BadInput, Forbidden, IntramurosError
from appliance.kernel.problem import Problem
from appliance.services import campaigns, deployments, models, pipelines, promotion
from appliance.services.context import Context
from appliance.store import schema
from tests.factories.appliance import WEIGHTS, context, finish_job, imported_dataset, imported_model, taken_in_suite
from tests.factories.campaigns import drive, end, move, open_jobs, put_running

GATES = """\
[dev]
parity = false
[test]
parity = false
[prod]
parity = false
approvals = 1
"""
PIPELINE = """\
pipeline: faq
steps:
  - data: faq
  - train: {recipe: seed, corpus: "${data.ref}", with: {layers: 1, hidden_size: 32, intermediate_size: 64}}
  - register: {run: "${train.run}", name: faq}
  - promote: {model: "${register.ref}", to: prod}
"""


@pytest.fixture(autouse=True)
def gates(ctx: Context) -> Path:
    imported_dataset(ctx)
    ctx.appliance.paths.gates.write_text(GATES)
    return ctx.appliance.paths.gates


def start(ctx: Context, text: str = PIPELINE, *, folder: str = "/media") -> str:
    return pipelines.submit(ctx, t.SubmitPipeline(text=text, name="p.yaml", folder=folder)).id


def trained(_job: Row[Any]) -> Mapping[str, Any]:
    return {}


def states(detail: t.CampaignDetail) -> list[str]:
    return [step.state for step in detail.steps]


def test_a_pipeline_waits_for_the_approval_that_is_missing_and_then_goes_on(ctx: Context, gates: Path) -> None:
    campaign = start(ctx)
    waiting = drive(ctx, campaign, trained)
    assert waiting.campaign.state == "waiting"
    assert states(waiting) == ["succeeded", "succeeded", "succeeded", "waiting"]
    assert waiting.campaign.problem is not None
    assert "faq@1 waits for somebody other than its author" in waiting.campaign.problem.message
    assert models.show(ctx, "faq@1").model.stage == "test"
    promotion.approve(context(ctx.appliance, user="bob"), "faq@1", t.Approve(stage="prod"))
    done = move(ctx, campaign)
    assert done.campaign.state == "succeeded"
    assert done.campaign.problem is None
    assert done.campaign.summary["promote"] == {"ref": "faq@1", "stage": "prod"}
    assert models.show(ctx, "faq@1").model.stage == "prod"


def test_a_gate_that_does_not_pass_ends_it_with_the_verdict_and_it_goes_on_when_it_would(
    ctx: Context, gates: Path
) -> None:
    gates.write_text(GATES.replace("[test]\nparity = false", "[test]\nparity = true"))
    campaign = start(ctx)
    failed = drive(ctx, campaign, trained).campaign
    assert failed.state == "failed"
    assert failed.problem is not None
    assert failed.problem.code == "gate.refused"
    assert failed.problem.message.startswith("Step promote: faq@1 does not pass the gate to test: parity not measured")
    gates.write_text(GATES)
    campaigns.resume(ctx, campaign)
    again = move(ctx, campaign)
    assert again.campaign.state == "waiting"
    assert open_jobs(ctx) == []  # what was done is not done again
    assert [model.ref for model in models.list_models(ctx)] == ["faq@1"]


def test_a_job_that_fails_is_gone_on_with_when_the_pipeline_is(ctx: Context) -> None:
    campaign = start(ctx)
    failed = drive(ctx, campaign, lambda _job: Problem(code="x.y", message="It broke."))
    assert failed.campaign.problem is not None
    assert failed.campaign.problem.message == "Step train: It broke."
    job = failed.steps[1].job
    campaigns.resume(ctx, campaign)
    move(ctx, campaign)
    assert [row.id for row in open_jobs(ctx)] == [job]
    assert drive(ctx, campaign, trained).campaign.state == "waiting"


@pytest.mark.parametrize("forgotten", range(4))
def test_a_daemon_killed_before_a_steps_outcome_was_recorded_does_no_step_twice(ctx: Context, forgotten: int) -> None:
    """The step was carried out and its row does not say so: the call finds what is there."""
    campaign = start(ctx)
    drive(ctx, campaign, trained)
    with ctx.appliance.database.write() as connection:
        step = schema.campaign_steps
        connection.execute(
            update(step)
            .where(step.c.campaign_id == campaign, step.c.number == forgotten + 1)
            .values(state="pending", job_id="", outcome=None, problem=None)
        )
    again = drive(ctx, campaign, trained)
    assert again.campaign.state == "waiting"
    with ctx.appliance.database.read() as connection:
        kinds = [row.kind for row in connection.execute(schema.jobs.select())]
    assert sorted(kinds) == ["dataset.import", "train.seed"]
    assert [model.ref for model in models.list_models(ctx)] == ["faq@1"]


def test_an_import_that_is_still_stopping_is_waited_for(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    campaign = start(ctx, "pipeline: p\nsteps:\n  - import: {source: rows.jsonl, name: mine}\n", folder=str(tmp_path))
    first = move(ctx, campaign).steps[0].job
    put_running(ctx, first)
    campaigns.cancel(ctx, campaign)
    campaigns.resume(ctx, campaign)
    assert [(step.state, step.job) for step in move(ctx, campaign).steps] == [("stopping", first)]
    assert [job.id for job in open_jobs(ctx)] == [first]
    end(ctx, open_jobs(ctx)[0], {})
    found = move(ctx, campaign).steps[0]
    assert found.state == "queued"
    assert found.job != first


def test_an_import_takes_a_source_beside_the_file_and_is_queued_once(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    given = "{source: rows.jsonl, name: mine, form: chat, keep: [day], redact: true}"
    campaign = start(ctx, f"pipeline: p\nsteps:\n  - import: {given}\n", folder=str(tmp_path))
    move(ctx, campaign)
    with ctx.appliance.database.write() as connection:
        connection.execute(update(schema.campaign_steps).values(state="pending", job_id=""))
    move(ctx, campaign)
    (job,) = open_jobs(ctx)
    asked = job.spec["parameters"]
    assert asked["source"] == str(tmp_path / "rows.jsonl")
    assert (asked["form"], asked["keep"], asked["redact"]) == ("chat", ["day"], True)
    counts = dict.fromkeys(("train_rows", "heldout_rows", "rejected_rows", "duplicate_rows"), 1)
    end(ctx, job, {"form": "chat", **counts}, {"train.jsonl": b"1", "heldout.jsonl": b"2"})
    done = move(ctx, campaign)
    assert done.campaign.state == "succeeded"
    assert done.campaign.summary["import"]["ref"] == "mine@1"


def test_a_model_is_measured_on_a_suite(ctx: Context) -> None:
    ref = taken_in_suite(ctx, b"tasks")
    imported_model(ctx, "base", WEIGHTS)
    campaign = start(ctx, f"pipeline: p\nsteps:\n  - evaluate: {{model: base@1, suite: {ref}}}\n")
    move(ctx, campaign)
    (job,) = open_jobs(ctx)
    assert {name: given["ref"] for name, given in job.spec["inputs"].items()} == {"model": "base@1", "suite": ref}


def test_a_deployment_is_wished_for_once_and_followed(ctx: Context) -> None:
    gguf = {"model.gguf": b"GGUF"}
    text = "pipeline: p\nsteps:\n  - deploy: {model: served@1, as: served}\n"
    _at_prod(ctx, gguf)
    campaign = start(ctx, text)
    assert states(move(ctx, campaign)) == ["running"]
    assert states(move(ctx, campaign)) == ["running"]
    (revision,) = deployments.show(ctx, "served").revisions
    deployments.mark_failed(ctx, revision.number, "no memory")
    failed = move(ctx, campaign).campaign
    assert failed.problem is not None
    assert failed.problem.message == "Step deploy: served@1 could not be served as served: no memory."
    campaigns.resume(ctx, campaign)
    move(ctx, campaign)
    newest = deployments.show(ctx, "served").revisions[0]
    assert newest.number != revision.number
    deployments.mark_live(ctx, newest.number)
    done = move(ctx, campaign)
    assert done.campaign.state == "succeeded"
    assert done.campaign.summary["deploy"] == {"name": "served", "ref": "served@1", "revision": newest.number}


def _at_prod(ctx: Context, files: Mapping[str, bytes]) -> None:
    from appliance.jobs.spec import JobKind, JobSpec
    from appliance.services.jobs import bare_environment, enqueue

    spec = JobSpec(
        kind=JobKind.IMPORT_MODEL,
        inputs={},
        parameters={"source": "/media/model", "name": "served", "licence": ""},
        seed=0,
        environment=bare_environment(ctx),
    )
    finish_job(ctx, enqueue(ctx, spec, title="served", reuse=False).id, files, {"architecture": "llama"})
    promotion.approve(context(ctx.appliance, user="bob"), "served@1", t.Approve(stage="prod"))
    for stage in ("dev", "test", "prod"):
        promotion.promote(ctx, "served@1", t.Promote(stage=stage))


def test_who_may_not_do_a_step_is_told_before_the_first(ctx: Context) -> None:
    scientist = context(ctx.appliance, user="carol", roles=frozenset({Role.DATA_SCIENTIST}))
    with pytest.raises(Forbidden) as refused:
        start(scientist, PIPELINE + '  - deploy: {model: "${register.ref}", as: faq}\n')
    assert "deployment.deploy faq.deploy" in refused.value.message
    assert campaigns.list_campaigns(ctx) == ()


def test_somebody_who_lost_a_role_on_the_way_has_nothing_done_for_them(ctx: Context) -> None:
    campaign = start(ctx)
    move(ctx, campaign)
    finish_job(ctx, open_jobs(ctx)[0].id, WEIGHTS, {})
    failed = move(context(ctx.appliance, roles=frozenset({Role.AUDITOR})), campaign).campaign
    assert failed.problem is not None
    assert failed.problem.code == "access.role"


@pytest.mark.parametrize(
    ("was", "put", "code"),
    [
        ("recipe: seed", "recipe: sow", "recipe.file"),
        ("{layers: 1,", "{layers: 0,", "recipe.file"),
        ("name: faq}", "name: Bad Name}", "name.invalid"),
    ],
)
def test_faults_of_later_steps_are_found_before_the_first(ctx: Context, was: str, put: str, code: str) -> None:
    with pytest.raises(IntramurosError) as refused:
        start(ctx, PIPELINE.replace(was, put))
    assert isinstance(refused.value, BadInput)
    assert refused.value.code == code
