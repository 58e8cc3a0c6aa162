from __future__ import annotations

import pytest

from appliance.api import types as t
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound
from appliance.services import deployments, jobs, models
from appliance.services.context import Appliance, Context
from tests.factories.appliance import (
    WEIGHTS,
    context,
    finish_job,
    finished_run,
    head,
    imported_dataset,
    imported_model,
    queue_run,
    trail,
)

PARITY = {"parity": {"passed": True}}


def seed_run(ctx: Context, *, seed: int = 0, weights: bytes = b"weights") -> str:
    files = WEIGHTS | {"model.safetensors": weights}
    return finished_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)}, files, seed=seed)


def register(ctx: Context, run: str, name: str, *, licence: str = "") -> t.ModelDetail:
    return models.register(ctx, t.RegisterModel(name=name, run=run, licence=licence))


def stored(appliance: Appliance, detail: t.ModelDetail) -> set[str]:
    return {entry.path for entry in detail.files if appliance.paths.blob(entry.digest).exists()}


def test_registering_a_run_twice_gives_the_same_version(ctx: Context) -> None:
    run = seed_run(ctx)
    before = head(ctx)
    first, again = register(ctx, run, "seed"), register(ctx, run, "seed")
    assert first.model.ref == again.model.ref == "seed@1"
    assert trail(ctx, since=before) == [("model.register", "done")]
    assert register(ctx, run, "other").model.ref == "other@1"


def test_other_bytes_are_the_next_version_and_a_removed_number_is_not_used_again(ctx: Context) -> None:
    register(ctx, seed_run(ctx), "seed")
    assert register(ctx, seed_run(ctx, seed=1, weights=b"other"), "seed").model.ref == "seed@2"
    models.remove(ctx, "seed@2")
    assert register(ctx, seed_run(ctx, seed=2, weights=b"third"), "seed").model.ref == "seed@3"
    with pytest.raises(NotFound):
        models.show(ctx, "seed@2")
    assert models.show(ctx, "seed").model.version == 3


def test_only_finished_runs_that_make_models_are_registered(ctx: Context) -> None:
    data = imported_dataset(ctx)
    with pytest.raises(Conflict) as raised:
        register(ctx, f"run:{queue_run(ctx, JobKind.TRAIN_SEED, {'corpus': data}).id}", "x")
    assert raised.value.code == "run.not_finished"
    ref = imported_model(ctx, "tiny", WEIGHTS)
    figures = {"metrics": {"exact_match": 1.0}, "examples": 1}
    evaluated = finished_run(ctx, JobKind.EVALUATE, {"model": ref, "dataset": data}, {}, figures)
    with pytest.raises(BadInput) as refused:
        register(ctx, evaluated, "x")
    assert refused.value.code == "run.not_a_model"


def test_a_converted_run_keeps_the_folder_the_adapter_and_the_gguf_file(ctx: Context) -> None:
    files = WEIGHTS | {"adapter/adapter.safetensors": b"low rank"}
    base = imported_model(ctx, "base", WEIGHTS)
    run = finished_run(ctx, JobKind.TRAIN_LORA, {"base": base, "dataset": imported_dataset(ctx)}, files)
    gguf = {"model.gguf": b"gguf", "parity.json": b"{}"}
    converted = finished_run(ctx, JobKind.CONVERT_GGUF, {"model": run}, gguf, PARITY)
    detail = register(ctx, converted, "assistant")
    assert {entry.path for entry in detail.files} == {*files, *gguf}
    assert detail.model.formats == ("safetensors", "gguf")
    assert detail.description["parity"] == {"passed": True}


def test_kind_and_licence_follow_from_what_a_version_was_made_of(ctx: Context) -> None:
    data = imported_dataset(ctx)
    base = imported_model(ctx, "base", WEIGHTS, licence="llama3.2")
    assert (models.show(ctx, base).model.kind, models.show(ctx, base).model.licence) == ("imported", "llama3.2")
    tuned = finished_run(ctx, JobKind.TRAIN_LORA, {"base": base, "dataset": data}, {"model.safetensors": b"2"})
    assert _kind_and_licence(register(ctx, tuned, "tuned")) == ("tuned", "llama3.2")
    converted = finished_run(ctx, JobKind.CONVERT_GGUF, {"model": base}, {"model.gguf": b"3"}, PARITY)
    assert _kind_and_licence(register(ctx, converted, "base")) == ("imported", "llama3.2")
    seed = seed_run(ctx)
    assert _kind_and_licence(register(ctx, seed, "seed")) == ("seed", "Apache-2.0")
    assert _kind_and_licence(register(ctx, seed, "house", licence="proprietary")) == ("seed", "proprietary")
    grown = finished_run(ctx, JobKind.CONVERT_GGUF, {"model": "tuned@1"}, {"model.gguf": b"4"}, PARITY)
    assert _kind_and_licence(register(ctx, grown, "tuned")) == ("tuned", "llama3.2")


def _kind_and_licence(detail: t.ModelDetail) -> tuple[str, str]:
    return detail.model.kind, detail.model.licence


def test_removing_frees_what_nothing_else_names(appliance: Appliance, ctx: Context) -> None:
    imported_model(ctx, "one", {"config.json": b"shared", "model.safetensors": b"one"})
    imported_model(ctx, "two", {"config.json": b"shared", "model.safetensors": b"two"})
    one, two = models.show(ctx, "one@1"), models.show(ctx, "two@1")
    before = head(ctx)
    models.remove(ctx, "one@1")
    assert trail(ctx, since=before) == [("model.remove", "done")]
    assert stored(appliance, one) == {"config.json"}
    assert stored(appliance, two) == {"config.json", "model.safetensors"}
    models.remove(ctx, "two@1")
    assert stored(appliance, two) == set()
    assert appliance.blobs.usage() == (0, 0)


def test_bytes_that_a_data_set_also_has_stay(appliance: Appliance, ctx: Context) -> None:
    imported_dataset(ctx, "faq")
    imported_model(ctx, "odd", {"model.safetensors": b"faq train"})
    detail = models.show(ctx, "odd@1")
    models.remove(ctx, "odd@1")
    assert stored(appliance, detail) == {"model.safetensors"}


def test_a_run_whose_outputs_went_is_repeated_and_not_registered(appliance: Appliance, ctx: Context) -> None:
    run = seed_run(ctx)
    register(ctx, run, "seed")
    models.remove(ctx, "seed@1")
    with pytest.raises(Conflict) as raised:
        register(ctx, run, "seed")
    assert raised.value.code == "run.no_outputs"
    again = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": "faq@1"})
    assert (again.state, again.cached, f"run:{again.id}" != run) == ("queued", False, True)


def test_a_conversion_whose_source_went_is_not_registered(appliance: Appliance, ctx: Context) -> None:
    run = seed_run(ctx)
    register(ctx, run, "seed")
    converted = finished_run(ctx, JobKind.CONVERT_GGUF, {"model": run}, {"model.gguf": b"gguf"}, PARITY)
    models.remove(ctx, "seed@1")
    with pytest.raises(Conflict) as raised:
        register(ctx, converted, "assistant")
    assert raised.value.code == "run.no_outputs"


def test_what_is_served_tuned_from_or_waited_for_cannot_be_removed(appliance: Appliance, ctx: Context) -> None:
    data = imported_dataset(ctx)
    ref = imported_model(ctx, "base", WEIGHTS | {"model.gguf": b"gguf"})
    assert models.show(ctx, ref).used_by == ()
    number = deployments.deploy(ctx, "chat", t.Deploy(model=ref, override="a test")).revision
    deployments.mark_live(ctx, number)
    tuned = queue_run(ctx, JobKind.TRAIN_LORA, {"base": ref, "dataset": data})
    assert models.show(ctx, ref).used_by == ("deployment chat", f"job {tuned.id}")
    with pytest.raises(Conflict, match="deployment chat") as raised:
        models.remove(ctx, ref)
    assert raised.value.code == "model.in_use"
    deployments.remove(ctx, "chat")
    finish_job(ctx, tuned.id, {"model.safetensors": b"2"}, {})
    register(ctx, f"run:{tuned.id}", "tuned")
    assert models.show(ctx, ref).used_by == ("model tuned@1",)
    models.remove(ctx, "tuned@1")
    models.remove(ctx, ref)


def test_a_version_whose_run_a_waiting_job_reads_cannot_be_removed(appliance: Appliance, ctx: Context) -> None:
    """The job named the run, not the version, but the bytes are the version's."""
    run = seed_run(ctx)
    detail = register(ctx, run, "seed")
    waiting = queue_run(ctx, JobKind.EVALUATE, {"model": run, "dataset": "faq@1"})
    with pytest.raises(Conflict, match=f"job {waiting.id}"):
        models.remove(ctx, "seed@1")
    jobs.cancel(ctx, waiting.id)
    models.remove(ctx, "seed@1")
    assert stored(appliance, detail) == set()


def test_verifying_finds_a_changed_byte(appliance: Appliance, ctx: Context) -> None:
    imported_model(ctx, "tiny", WEIGHTS)
    detail = models.verify(ctx, "tiny")
    place = appliance.paths.blob(detail.files[0].digest)
    place.chmod(0o600)
    place.write_bytes(b"{]")
    with pytest.raises(IntegrityFailure):
        models.verify(ctx, "tiny")


def test_importing_equal_bytes_makes_no_new_version(ctx: Context) -> None:
    assert imported_model(ctx, "tiny", WEIGHTS) == imported_model(ctx, "tiny", WEIGHTS) == "tiny@1"
    assert len(models.list_models(ctx)) == 1


def test_names_are_checked_before_anything_is_queued(appliance: Appliance) -> None:
    ctx = context(appliance)
    with pytest.raises(BadInput):
        models.import_model(ctx, t.ImportModel(source="/etc/hostname", name="Bad Name"))
    assert jobs.list_jobs(ctx, {}) == ()
