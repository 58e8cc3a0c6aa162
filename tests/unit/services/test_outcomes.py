from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.api import types as t
from appliance.jobs.spec import FileEntry, JobKind, TaskResult
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.errors import IntegrityFailure
from appliance.kernel.problem import Problem
from appliance.services import datasets, jobs, models, outcomes
from appliance.services.context import Appliance, Context
from tests.factories.appliance import (
    WEIGHTS,
    finish_job,
    finished_run,
    head,
    imported_dataset,
    imported_model,
    queue_run,
    trail,
)

PROBLEM = Problem(code="job.crashed", message="It crashed.")


def show(ctx: Context, job: t.JobView) -> t.JobView:
    return jobs.show(ctx, job.id, {}).job


def test_settling_again_is_harmless(appliance: Appliance, ctx: Context) -> None:
    job = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)})
    result = finish_job(ctx, job.id, WEIGHTS, {"loss": 1.0})
    settled, before = show(ctx, job), head(ctx)
    outcomes.succeed(ctx, job.id, result)
    outcomes.fail(ctx, job.id, PROBLEM)
    outcomes.cancelled(ctx, job.id)
    assert show(ctx, job) == settled
    assert settled.state == "succeeded"
    assert trail(ctx, since=before) == []


def test_a_failure_is_recorded_once_with_its_code(ctx: Context) -> None:
    job = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)})
    before = head(ctx)
    outcomes.fail(ctx, job.id, PROBLEM)
    outcomes.fail(ctx, job.id, PROBLEM)
    assert trail(ctx, since=before) == [("job.finish", "failed")]
    assert show(ctx, job).problem == PROBLEM


def test_outputs_are_moved_into_the_store(appliance: Appliance, ctx: Context) -> None:
    run = finished_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)}, WEIGHTS)
    job_id = run.removeprefix("run:")
    files = jobs.show(ctx, job_id, {}).files
    assert {entry.path: appliance.blobs.path(entry.digest).read_bytes() for entry in files} == WEIGHTS
    assert list((appliance.paths.job(job_id) / "out").iterdir()) == []


def test_an_output_that_is_not_what_was_sealed_settles_nothing(appliance: Appliance, ctx: Context) -> None:
    job = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)})
    out = appliance.paths.job(job.id) / "out"
    out.mkdir(parents=True)
    (out / "model.safetensors").write_bytes(b"something else")
    sealed = FileEntry(path="model.safetensors", digest=sha256_hex(b"weights"), size=7)
    with pytest.raises(IntegrityFailure):
        outcomes.succeed(ctx, job.id, TaskResult(summary={}, files=(sealed,)))
    assert show(ctx, job).state == "queued"


def test_equal_data_is_one_version_and_other_data_the_next(ctx: Context) -> None:
    imported_dataset(ctx, "faq")
    before = head(ctx)
    imported_dataset(ctx, "faq")
    assert [entry.ref for entry in datasets.list_datasets(ctx)] == ["faq@1"]
    assert ("dataset.register", "done") not in trail(ctx, since=before)


def test_an_evaluation_belongs_to_the_weights_not_to_a_name(ctx: Context) -> None:
    data = imported_dataset(ctx)
    one = imported_model(ctx, "one", WEIGHTS)
    imported_model(ctx, "two", WEIGHTS | {"model.gguf": b"gguf"})
    figures = {"metrics": {"exact_match": 0.5}, "examples": 10}
    finished_run(ctx, JobKind.EVALUATE, {"model": one, "dataset": data}, {}, figures)
    found = models.show(ctx, "two").evaluations
    assert [(entry.subject, entry.dataset, entry.metrics) for entry in found] == [(one, data, {"exact_match": 0.5})]


def test_bytes_that_one_version_frees_while_another_adopts_them_are_never_lost(
    appliance: Appliance, ctx: Context, tmp_path: Path
) -> None:
    """Removal deletes after its commit, adoption links before its commit: both take the same lock."""
    imported_model(ctx, "old", WEIGHTS)
    removing = threading.Thread(target=models.remove, args=(ctx, "old@1"))
    with appliance.adopting:
        removing.start()
        removing.join(0.2)
        assert removing.is_alive()
        assert models.show(ctx, "old@1").model.ref == "old@1"
    removing.join()
    assert imported_model(ctx, "new", WEIGHTS) == "new@1"
    models.verify(ctx, "new@1")
