from __future__ import annotations

import pytest
from sqlalchemy import update

from appliance.api import types as t
from appliance.datasets.forms import Form
from appliance.jobs.spec import JobKind, manifest_digest
from appliance.kernel.errors import BadInput, Conflict, NotFound
from appliance.kernel.events import Progress
from appliance.kernel.problem import Problem
from appliance.services import jobs, outcomes
from appliance.services.context import Context
from appliance.services.records import find_job
from appliance.store import schema
from appliance.training.recipes.registry import RECIPES, recipe_kind
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


@pytest.fixture
def data(ctx: Context) -> str:
    return imported_dataset(ctx)


def queue(ctx: Context, data: str, *, seed: int = 0) -> t.JobView:
    return queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": data}, seed=seed)


def put_state(ctx: Context, job_id: str, **values: object) -> None:
    with ctx.appliance.database.write() as connection:
        connection.execute(update(schema.jobs).where(schema.jobs.c.id == job_id).values(**values))


def test_an_equal_run_is_not_queued_twice(ctx: Context, data: str) -> None:
    before = head(ctx)
    first = queue(ctx, data)
    assert queue(ctx, data) == first
    put_state(ctx, first.id, state="running")
    assert queue(ctx, data).id == first.id
    assert trail(ctx, since=before) == [("job.submit", "done")]


def test_an_equal_run_that_succeeded_is_returned_with_its_result(ctx: Context, data: str) -> None:
    job = queue(ctx, data)
    finish_job(ctx, job.id, WEIGHTS, {"loss": 1.0})
    again = queue(ctx, data)
    assert (again.id, again.cached, again.summary) == (job.id, True, {"loss": 1.0})


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_an_equal_run_that_did_not_succeed_is_run_again(ctx: Context, data: str, state: str) -> None:
    job = queue(ctx, data)
    put_state(ctx, job.id, state=state)
    assert queue(ctx, data).id != job.id


def test_a_run_that_is_being_cancelled_is_not_handed_to_somebody_else(ctx: Context, data: str) -> None:
    job = queue(ctx, data)
    put_state(ctx, job.id, state="running", cancel_requested=True)
    assert queue(ctx, data).id != job.id


def test_another_seed_is_another_run(ctx: Context, data: str) -> None:
    assert queue(ctx, data).run_id != queue(ctx, data, seed=1).run_id


def test_cancelling_a_queued_job_ends_it_at_once(ctx: Context, data: str) -> None:
    job = queue(ctx, data)
    before = head(ctx)
    assert jobs.cancel(ctx, job.id).state == "cancelled"
    assert trail(ctx, since=before) == [("job.cancel", "done")]
    with pytest.raises(Conflict) as raised:
        jobs.cancel(ctx, job.id)
    assert raised.value.code == "job.not_running"


def test_cancelling_a_running_job_only_asks(ctx: Context, data: str) -> None:
    job = queue(ctx, data)
    put_state(ctx, job.id, state="running")
    assert jobs.cancel(ctx, job.id).state == "running"
    outcomes.cancelled(ctx, job.id)
    assert jobs.show(ctx, job.id, {}).job.state == "cancelled"


def test_a_stopped_job_is_resumed_without_its_old_problem(ctx: Context, data: str) -> None:
    job = queue(ctx, data)
    outcomes.fail(ctx, job.id, PROBLEM)
    put_state(ctx, job.id, stalled=4, cancel_requested=True)
    before = head(ctx)
    view = jobs.resume(ctx, job.id)
    assert (view.state, view.problem, view.finished_at) == ("queued", None, "")
    with ctx.appliance.database.read() as connection:
        row = find_job(connection, job.id)
    assert (row.stalled, row.cancel_requested) == (0, False)
    assert trail(ctx, since=before) == [("job.resume", "done")]


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_only_a_stopped_job_is_resumed(ctx: Context, data: str, state: str) -> None:
    job = queue(ctx, data)
    put_state(ctx, job.id, state=state)
    with pytest.raises(Conflict) as raised:
        jobs.resume(ctx, job.id)
    assert raised.value.code == "job.not_stopped"


def test_a_job_is_found_by_an_unambiguous_beginning(ctx: Context, data: str) -> None:
    first, second = queue(ctx, data), queue(ctx, data, seed=1)
    assert jobs.show(ctx, first.id.lower(), {}).job.id == first.id
    assert jobs.show(ctx, f"run:{second.id}", {}).job.id == second.id
    for text in (first.id[:1], "", "run:", "%", "_" * 26):
        with pytest.raises(NotFound):
            jobs.show(ctx, text, {})


def test_an_empty_name_is_nobody_even_where_there_is_one_job(ctx: Context, data: str) -> None:
    for text in ("", "run:"):
        with pytest.raises(NotFound):
            jobs.cancel(ctx, text)


def test_live_progress_is_shown_with_its_job(ctx: Context, data: str) -> None:
    job = queue(ctx, data)
    progress = Progress(phase="training", fraction=0.5)
    listed = jobs.list_jobs(ctx, {job.id: progress})
    assert [entry.progress for entry in listed] == [progress, None]
    assert [entry.id for entry in listed] == sorted((entry.id for entry in listed), reverse=True)


@pytest.mark.parametrize(
    ("kind", "inputs", "code"),
    [
        ("model.import", {}, "job.kind"),
        ("nonsense", {}, "job.kind"),
        ("evaluate", {"model": "tiny"}, "job.inputs"),
        ("evaluate", {"model": "tiny", "dataset": "faq", "base": "tiny"}, "job.inputs"),
        ("evaluate", {"model": "run:", "dataset": "faq"}, "job.unknown"),
        ("evaluate", {"model": "tiny", "dataset": "nothing"}, "dataset.unknown"),
        ("evaluate", {"model": "gguf", "dataset": "faq"}, "model.no_weights"),
        ("train.seed", {"corpus": "faq@7"}, "dataset.unknown"),
        ("train.seed", {"corpus": "faq@²"}, "ref.invalid"),
    ],
)
def test_what_cannot_run_is_refused_before_it_is_queued(
    ctx: Context, data: str, kind: str, inputs: dict[str, str], code: str
) -> None:
    imported_model(ctx, "tiny", WEIGHTS)
    imported_model(ctx, "gguf", {"model.gguf": b"x"})
    before = len(jobs.list_jobs(ctx, {}))
    with pytest.raises((BadInput, NotFound)) as raised:
        jobs.submit(ctx, t.SubmitJob(kind=kind, inputs=inputs))
    assert raised.value.code == code
    assert len(jobs.list_jobs(ctx, {})) == before


@pytest.mark.parametrize("kind", [JobKind(f"train.{name}") for name in RECIPES])
def test_data_that_a_recipe_cannot_learn_from_is_refused_before_it_is_queued(ctx: Context, kind: JobKind) -> None:
    recipe = recipe_kind(kind)
    assert set(recipe.learns_from) < set(Form)
    model = imported_model(ctx, "base", WEIGHTS)
    for form in set(Form) - set(recipe.learns_from):
        data = imported_dataset(ctx, f"rows-{form}", form=form)
        given = {name: data if name in jobs.DATASET_INPUTS else model for name in recipe.required_inputs}
        with pytest.raises(BadInput, match=r"job\.form.*rows"):
            jobs.resolve(ctx, kind, given)


def test_a_run_is_an_input_only_once_it_has_trained_something(ctx: Context, data: str) -> None:
    job = queue(ctx, data)
    inputs = {"model": f"run:{job.id}", "dataset": data}
    with pytest.raises(BadInput) as raised:
        jobs.submit(ctx, t.SubmitJob(kind="evaluate", inputs=inputs))
    assert raised.value.code == "ref.not_a_model"
    finish_job(ctx, job.id, WEIGHTS | {"adapter/a.safetensors": b"", "parity.json": b""}, {})
    view = jobs.submit(ctx, t.SubmitJob(kind="evaluate", inputs=inputs))
    spec = jobs.show(ctx, view.id, {}).spec
    assert [entry["path"] for entry in spec["inputs"]["model"]["files"]] == sorted(WEIGHTS)


def test_equal_recipes_are_equal_runs_however_they_are_written(ctx: Context, data: str) -> None:
    views = [
        jobs.submit(ctx, t.SubmitJob(kind="train.seed", inputs={"corpus": data}, parameters=parameters))
        for parameters in ({}, {"clip_norm": 1.0}, {"clip_norm": 1})
    ]
    assert len({view.run_id for view in views}) == 1


def test_the_digest_of_an_input_is_that_of_its_files(ctx: Context, data: str) -> None:
    run = finished_run(ctx, JobKind.TRAIN_SEED, {"corpus": data}, WEIGHTS)
    with ctx.appliance.database.read() as connection:
        given = jobs.model_input(connection, run)
    assert given.digest == manifest_digest(given.files)
