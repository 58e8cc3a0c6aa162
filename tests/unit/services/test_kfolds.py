from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Row

from appliance.api import types as t
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, NotFound
from appliance.kernel.events import Progress
from appliance.kernel.problem import Problem
from appliance.services import campaigns, jobs, kfolds, models, runs
from appliance.services.context import Context
from appliance.services.records import find_job
from tests.factories.appliance import imported_dataset, queue_run
from tests.factories.campaigns import drive, end, move, open_jobs, put_running

RECIPE = """\
recipe: seed
corpus: faq
with: {layers: 1, hidden_size: 32, intermediate_size: 64}
"""


@pytest.fixture(autouse=True)
def data(ctx: Context) -> str:
    return imported_dataset(ctx)


def start(ctx: Context, text: str = RECIPE, *, folds: int = 3) -> str:
    return kfolds.submit(ctx, t.SubmitKfold(text=text, name="r.yaml", folds=folds)).id


def loss(job: Row[Any]) -> Mapping[str, Any]:
    return {"heldout_loss": 1.0 + job.spec["fold"]["index"], "metrics": {"accuracy": 0.5}, "parameters": 7}


def test_each_fold_is_a_run_of_its_own_and_the_spread_is_the_result(ctx: Context) -> None:
    found = drive(ctx, start(ctx), loss)
    assert found.campaign.state == "succeeded"
    figures = found.campaign.summary["metrics"]
    assert set(figures) == {"heldout_loss", "accuracy"}
    assert (figures["heldout_loss"]["mean"], figures["heldout_loss"]["deviation"]) == (2.0, 1.0)
    assert figures["heldout_loss"]["values"] == [1.0, 2.0, 3.0]
    with ctx.appliance.database.read() as connection:
        rows = [find_job(connection, step.job) for step in found.steps]
    assert [row.spec["fold"] for row in rows] == [
        {"input": "corpus", "index": index, "of": 3, "seed": 0} for index in range(3)
    ]
    assert len({row.run_id for row in rows}) == 3
    assert {row.spec["inputs"]["corpus"]["ref"] for row in rows} == {"faq@1"}
    assert not any(row.files for row in rows)


def test_a_fold_that_became_a_version_keeps_its_files(ctx: Context) -> None:
    campaign = start(ctx)
    move(ctx, campaign)
    first = open_jobs(ctx)[0]
    # Bytes of its own: what two folds share would be kept for both.
    end(ctx, first, loss(first), {"config.json": b"first", "model.safetensors": b"first"})
    version = models.register(ctx, t.RegisterModel(name="m", run=first.id)).model.ref
    found = drive(ctx, campaign, loss)
    with ctx.appliance.database.read() as connection:
        assert [bool(find_job(connection, step.job).files) for step in found.steps] == [True, False, False]
    assert models.verify(ctx, version).files


def test_jobs_and_campaigns_are_found_by_how_they_are_named_anywhere(ctx: Context) -> None:
    campaign = start(ctx)
    job = move(ctx, campaign).steps[0].job
    for text in (campaign, campaign.lower(), campaign[:20], campaign[-8:], f"kfold:{campaign}"):
        assert campaigns.show(ctx, text).campaign.id == campaign
    for text in (job, job[:25], job[-8:].lower(), f"run:{job}", f"run:{job[-10:]}"):
        assert jobs.show(ctx, text, {}).job.id == job
    for text in ("", "run:", job[-7:], job[1:-1], f"search:{job}"):
        with pytest.raises(NotFound):
            jobs.show(ctx, text, {})
    with pytest.raises(NotFound):
        campaigns.show(ctx, f"search:{campaign}")


def test_a_job_says_which_fold_it_is(ctx: Context) -> None:
    campaign = start(ctx)
    second = move(ctx, campaign).steps[1].job
    part = t.JobPart(kind="kfold", name="fold 2 of 3")
    assert jobs.show(ctx, second, {}).job.part == part
    assert {job.what for job in jobs.list_jobs(ctx, {}) if job.parent} == {f"fold {n} of 3: faq@1" for n in (1, 2, 3)}
    assert runs.show(ctx, second, lambda _: ()).job.part == part


def test_a_run_without_folds_is_another_run(ctx: Context) -> None:
    move(ctx, start(ctx))
    plain = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": "faq"})
    assert plain.id not in {step.job for step in campaigns.show(ctx, campaigns.list_campaigns(ctx)[0].id).steps}


def test_a_fold_that_fails_is_named_and_only_it_is_tried_again(ctx: Context) -> None:
    campaign = start(ctx)

    def ending(job: Row[Any]) -> Mapping[str, Any] | Problem:
        return Problem(code="x.y", message="It broke.") if job.spec["fold"]["index"] == 1 else loss(job)

    found = drive(ctx, campaign, ending)
    assert found.campaign.problem is not None
    assert found.campaign.problem.message == "fold 2 of 3 failed: It broke."
    tried = [step.job for step in found.steps]
    campaigns.resume(ctx, campaign)
    move(ctx, campaign)
    assert [job.id for job in open_jobs(ctx)] == [tried[1]]
    again = drive(ctx, campaign, loss)
    assert again.campaign.state == "succeeded"
    assert [step.job for step in again.steps] == tried


def test_a_job_that_is_still_stopping_is_waited_for_and_then_goes_on(ctx: Context) -> None:
    campaign = start(ctx, folds=2)
    first, second = (step.job for step in move(ctx, campaign).steps)
    put_running(ctx, first)
    campaigns.cancel(ctx, campaign)
    campaigns.resume(ctx, campaign)
    found = move(ctx, campaign)
    assert [(step.state, step.job) for step in found.steps] == [("stopping", first), ("queued", second)]
    stopping = next(job for job in open_jobs(ctx) if job.id == first)
    end(ctx, stopping, {})
    assert [(step.state, step.job) for step in move(ctx, campaign).steps] == [("queued", first), ("queued", second)]
    found = drive(ctx, campaign, loss)
    assert (found.campaign.state, [step.job for step in found.steps]) == ("succeeded", [first, second])


def test_a_fold_has_the_state_of_its_job_and_the_mark_changes_with_it(ctx: Context) -> None:
    campaign = start(ctx)
    queued = move(ctx, campaign)
    assert [step.state for step in queued.steps] == ["queued"] * 3
    put_running(ctx, queued.steps[0].job)
    running = campaigns.show(ctx, campaign)
    assert [step.state for step in running.steps] == ["running", "queued", "queued"]
    assert running.mark != queued.mark


def test_a_fold_of_a_cancelled_one_is_stopping_until_its_job_has_stopped(ctx: Context) -> None:
    campaign = start(ctx, folds=2)
    first = move(ctx, campaign).steps[0].job
    put_running(ctx, first)
    campaigns.cancel(ctx, campaign)
    progress = Progress(phase="train", fraction=0.5)
    found = campaigns.show(ctx, campaign, {first: progress})
    assert (found.campaign.state, [step.state for step in found.steps]) == ("cancelled", ["stopping", "cancelled"])
    assert found.steps[0].progress == progress
    (stopping,) = open_jobs(ctx)
    end(ctx, stopping, {})
    assert [step.state for step in campaigns.show(ctx, campaign).steps] == ["cancelled", "cancelled"]


@pytest.mark.parametrize(("folds", "text", "code"), [(1, RECIPE, "kfold.folds"), (21, RECIPE, "kfold.folds")])
def test_bad_input_is_refused(ctx: Context, folds: int, text: str, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        start(ctx, text, folds=folds)
    assert refused.value.code == code


def test_a_recipe_that_measures_nothing_on_held_out_rows_says_so(ctx: Context) -> None:
    found = drive(ctx, start(ctx), lambda _job: {"final_loss": 1.0})
    assert found.campaign.problem is not None
    assert found.campaign.problem.code == "kfold.no_figures"
