from __future__ import annotations

from pathlib import Path

import pytest

from appliance.api import types as t
from appliance.jobs.spec import JobKind
from appliance.kernel.events import CheckpointSaved, Event, Note
from appliance.services import models, runs
from appliance.services.context import Context
from appliance.services.environment_locks import environment_lock, requirements_text
from appliance.services.jobs import enqueue, resolve, spec_of
from appliance.training.recipe_file import parse_recipe_file
from tests.factories.appliance import SUMMARY, WEIGHTS, finish_job, finished_run, imported_dataset

RECIPE = b"recipe: seed\ncorpus: faq@1\nseed: 3\nwith: {layers: 1, hidden_size: 32, intermediate_size: 64}\n"


@pytest.fixture
def run(ctx: Context) -> str:
    imported_dataset(ctx)
    file = parse_recipe_file(RECIPE)
    kind = JobKind(file.kind)
    spec = spec_of(ctx, kind, resolve(ctx, kind, dict(file.inputs)), file.parameters, seed=file.seed)
    job = enqueue(ctx, spec, title="faq", reuse=True)
    finish_job(ctx, job.id, WEIGHTS, SUMMARY | {"heldout_loss": 1.5})
    return job.id


def log(_job: str) -> tuple[t.JobEvent, ...]:
    events: tuple[Event, ...] = (Note(text="hello"), CheckpointSaved(step=1, digest="0"))
    return tuple(t.JobEvent(seq=number, at=f"at {number}", event=event) for number, event in enumerate(events, 1))


def test_everything_about_a_run_is_there(ctx: Context, run: str) -> None:
    version = models.register(ctx, t.RegisterModel(name="m", run=run)).model.ref
    converted = finished_run(ctx, JobKind.CONVERT_GGUF, {"model": f"run:{run}"}, {"model.gguf": b"x"})
    found = runs.show(ctx, run, log)
    assert (found.seed, found.inputs[0].ref, found.inputs[0].name) == (3, "faq@1", "corpus")
    assert found.parameters["batch_size"] == 4  # a default
    assert parse_recipe_file(found.recipe_file.encode()).parameters == parse_recipe_file(RECIPE).parameters
    assert "seed: 3" in found.recipe_file
    assert found.metrics["heldout_loss"] == 1.5
    assert {entry.path for entry in found.outputs} == set(WEIGHTS)
    assert (found.events.events, found.events.checkpoints, found.events.notes) == (2, 1, ("hello",))
    assert (found.versions, found.children) == ((version,), (converted,))
    assert found.differences == ()
    assert f"torch=={environment_lock()['packages']['torch']['version']}" in found.requirements.splitlines()
    assert runs.show(ctx, converted, log).parents == (f"run:{run}",)


def test_a_run_is_repeated_as_it_was_where_nothing_has_changed(ctx: Context, run: str) -> None:
    again = runs.repeat(ctx, run)
    assert (again.id, again.cached) == (run, True)


def test_the_lock_is_what_pip_takes(tmp_path: Path) -> None:
    lines = requirements_text(environment_lock()).splitlines()
    assert lines[0].startswith("# Python 3.")
    assert all(line.count("==") == 1 for line in lines[1:])
    assert environment_lock()["packages"]["msgspec"]["files"]
