from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, update

from appliance.api import types as t
from appliance.jobs.spec import JobKind, JobSpec
from appliance.kernel.errors import BadInput, Conflict
from appliance.kernel.problem import Problem
from appliance.kernel.settings import Settings
from appliance.services import campaigns, jobs, models, reruns
from appliance.services.context import Context
from appliance.services.environment_locks import environment_lock
from appliance.services.jobs import enqueue, resolve, spec_of
from appliance.services.records import find_job
from appliance.store import schema
from tests.factories.appliance import SUMMARY, WEIGHTS, finish_job, imported_dataset, trail
from tests.factories.campaigns import end, move, open_jobs


@pytest.fixture
def run(ctx: Context) -> str:
    """A finished training run, made in this environment."""
    imported_dataset(ctx)
    inputs = resolve(ctx, JobKind.TRAIN_SEED, {"corpus": "faq"})
    spec = spec_of(ctx, JobKind.TRAIN_SEED, inputs, {}, seed=0)
    job = enqueue(ctx, spec, title="faq", reuse=True)
    finish_job(ctx, job.id, WEIGHTS, SUMMARY)
    return job.id


def verified(ctx: Context, run: str, files: dict[str, bytes]) -> t.CampaignDetail:
    campaign = reruns.verify(ctx, run).id
    move(ctx, campaign)
    (job,) = open_jobs(ctx)
    end(ctx, job, SUMMARY, files)
    return move(ctx, campaign)


def test_equal_bytes_are_identical_and_the_version_shows_it(ctx: Context, run: str) -> None:
    version = models.register(ctx, t.RegisterModel(name="m", run=run)).model.ref
    found = verified(ctx, run, WEIGHTS)
    assert found.campaign.state == "succeeded"
    assert found.campaign.summary | {"job": ""} == {
        "identical": True,
        "files": 2,
        "differing": [],
        "run": run,
        "job": "",
    }
    (shown,) = models.show(ctx, version).verifications
    assert (shown.run, shown.identical, shown.by) == (run, True, "alice")
    assert ("campaign.finish", "done") in trail(ctx)


def test_the_repetition_is_the_same_run_and_never_taken_for_it(ctx: Context, run: str) -> None:
    found = verified(ctx, run, {"config.json": b"{}", "model.safetensors": b"other"})
    assert found.campaign.summary["identical"] is False
    assert found.campaign.summary["differing"] == ["model.safetensors"]
    with ctx.appliance.database.read() as connection:
        original, repeated = find_job(connection, run), find_job(connection, found.steps[0].job)
    assert (repeated.run_id, repeated.repeats) == (original.run_id, run)
    again = enqueue(ctx, msgspec.convert(original.spec, JobSpec), title="", reuse=True)
    assert (again.id, again.cached) == (run, True)


def test_a_file_more_or_less_is_a_difference(ctx: Context, run: str) -> None:
    found = verified(ctx, run, {"config.json": b"{}", "extra": b"x"})
    assert found.campaign.summary["differing"] == ["extra", "model.safetensors"]


def test_a_daemon_killed_between_the_job_and_its_row_starts_no_second_one(ctx: Context, run: str) -> None:
    campaign = reruns.verify(ctx, run).id
    move(ctx, campaign)
    with ctx.appliance.database.write() as connection:
        connection.execute(update(schema.campaign_steps).values(state="pending", job_id=""))
    move(ctx, campaign)
    assert len(open_jobs(ctx)) == 1


def test_a_repetition_that_fails_says_why_and_can_go_on(ctx: Context, run: str) -> None:
    campaign = reruns.verify(ctx, run).id
    move(ctx, campaign)
    (job,) = open_jobs(ctx)
    end(ctx, job, Problem(code="x.y", message="It broke."))
    failed = move(ctx, campaign).campaign
    assert failed.problem is not None
    assert failed.problem.message == "It broke."
    campaigns.resume(ctx, campaign)
    move(ctx, campaign)
    end(ctx, open_jobs(ctx)[0], SUMMARY, WEIGHTS)
    assert move(ctx, campaign).campaign.summary["identical"] is True


def changed(ctx: Context, run: str, **environment: Any) -> None:
    with ctx.appliance.database.write() as connection:
        spec = dict(find_job(connection, run).spec)
        spec["environment"] = spec["environment"] | environment
        connection.execute(update(schema.jobs).where(schema.jobs.c.id == run).values(spec=spec))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"threads": 99}, "threads 99"),
        ({"device": "cuda"}, "the device cuda"),
        ({"cpu": "Abacus 1"}, "the processor Abacus 1"),
        ({"code": "0" * 64}, "the code 000000000000"),
    ],
)
def test_another_environment_is_refused_with_what_differs(
    ctx: Context, run: str, environment: dict[str, Any], told: str
) -> None:
    changed(ctx, run, **environment)
    with pytest.raises(Conflict) as refused:
        reruns.verify(ctx, run)
    assert refused.value.code == "rerun.environment"
    assert told in refused.value.message
    assert open_jobs(ctx) == []


def test_every_difference_is_named_at_once(ctx: Context, run: str) -> None:
    changed(ctx, run, threads=99, cpu="Abacus 1")
    with pytest.raises(Conflict) as refused:
        reruns.verify(ctx, run)
    assert "threads 99" in refused.value.message
    assert "Abacus 1" in refused.value.message


def test_other_packages_are_named_with_both_versions(ctx: Context, run: str) -> None:
    lock = environment_lock()
    packages = lock["packages"] | {
        "numpy": {"version": "0.9", "files": ""},
        "torch": lock["packages"]["torch"] | {"files": "0"},
        "abacus": {"version": "1", "files": ""},
    }
    with ctx.appliance.database.write() as connection:
        connection.execute(update(schema.locks).values(document=lock | {"packages": packages}))
    with pytest.raises(Conflict) as refused:
        reruns.verify(ctx, run)
    assert f"it had numpy 0.9, now {lock['packages']['numpy']['version']}" in refused.value.message
    assert "the installed files of torch" in refused.value.message
    assert "it had abacus 1, now none" in refused.value.message


def test_data_that_is_gone_is_named(ctx: Context, run: str) -> None:
    with ctx.appliance.database.write() as connection:
        connection.execute(delete(schema.blobs))
    with pytest.raises(Conflict) as refused:
        reruns.verify(ctx, run)
    assert "its input corpus (faq@1) is no longer in the store" in refused.value.message


def test_what_cannot_be_repeated_is_refused(ctx: Context, run: str) -> None:
    imported = next(job.id for job in jobs.list_jobs(ctx, {}) if job.kind == "dataset.import")
    with pytest.raises(BadInput) as no_run:
        reruns.verify(ctx, imported)
    assert no_run.value.code == "rerun.kind"
    with ctx.appliance.database.write() as connection:
        connection.execute(update(schema.jobs).where(schema.jobs.c.id == run).values(files=None))
    with pytest.raises(Conflict) as no_outputs:
        reruns.verify(ctx, run)
    assert no_outputs.value.code == "rerun.no_outputs"


def test_threads_are_compared_with_the_setting(ctx: Context, run: str) -> None:
    settings = Settings(training_threads=7)
    other = dataclasses.replace(ctx, appliance=dataclasses.replace(ctx.appliance, settings=settings))
    with pytest.raises(Conflict) as refused:
        reruns.verify(other, run)
    assert "now 7" in refused.value.message
