from __future__ import annotations

import pytest

from appliance.api import types as t
from appliance.jobs.spec import JobKind
from appliance.services import models
from appliance.services.context import Appliance, Context
from tests.factories.appliance import WEIGHTS, context, finished_run, imported_dataset, imported_model, stored_dataset

PARITY = {"parity": {"passed": True}}


def lineage(ctx: Context, run: str, name: str = "assistant") -> dict[str, object]:
    return models.register(ctx, t.RegisterModel(name=name, run=run)).lineage


def kinds(document: dict[str, object]) -> list[str]:
    runs = document["runs"]
    assert isinstance(runs, list)
    return [step["kind"] for step in runs]


@pytest.fixture
def people(appliance: Appliance) -> tuple[Context, Context, Context]:
    """alice trains the seed, bob tunes it, carol converts it."""
    return context(appliance, user="alice"), context(appliance, user="bob"), context(appliance, user="carol")


def test_a_chain_of_runs_leads_back_to_the_data_and_the_people(people: tuple[Context, Context, Context]) -> None:
    alice, bob, carol = people
    corpus, data = imported_dataset(alice, "handbook"), imported_dataset(alice, "faq")
    seed = finished_run(alice, JobKind.TRAIN_SEED, {"corpus": corpus}, WEIGHTS)
    tuned = finished_run(bob, JobKind.TRAIN_LORA, {"base": seed, "dataset": data}, {"model.safetensors": b"2"})
    inputs = {"model": tuned, "dataset": data}
    converted = finished_run(carol, JobKind.CONVERT_GGUF, inputs, {"model.gguf": b"3"}, PARITY)
    found = lineage(carol, converted)
    assert kinds(found) == ["convert.gguf", "train.lora", "train.seed"]
    assert found["authors"] == ["alice", "bob", "carol"]
    assert [entry["ref"] for entry in found["datasets"]] == [data, corpus]  # type: ignore[attr-defined]
    assert found["base"]["ref"] == seed  # type: ignore[index]
    outputs = [step["output"] for step in found["runs"]]  # type: ignore[attr-defined]
    assert all(outputs)


def test_converting_a_registered_version_keeps_its_runs_but_ends_at_a_base(
    people: tuple[Context, Context, Context],
) -> None:
    alice, bob, carol = people
    base, data = imported_model(alice, "base", WEIGHTS), imported_dataset(alice, "faq")
    tuned = finished_run(bob, JobKind.TRAIN_LORA, {"base": base, "dataset": data}, {"model.safetensors": b"2"})
    lineage(bob, tuned)
    converted = finished_run(carol, JobKind.CONVERT_GGUF, {"model": "assistant@1"}, {"model.gguf": b"3"}, PARITY)
    found = lineage(carol, converted)
    assert kinds(found) == ["convert.gguf", "train.lora"]
    assert found["base"]["ref"] == base  # type: ignore[index]
    assert found["authors"] == ["bob", "carol"]


def test_who_imported_a_model_is_an_author_of_its_conversion(people: tuple[Context, Context, Context]) -> None:
    alice, _, carol = people
    imported_model(alice, "base", WEIGHTS)
    converted = finished_run(carol, JobKind.CONVERT_GGUF, {"model": "base@1"}, {"model.gguf": b"3"}, PARITY)
    assert lineage(carol, converted, "base")["authors"] == ["alice", "carol"]


def test_evaluation_data_is_not_training_data(ctx: Context) -> None:
    data, prompts = imported_dataset(ctx, "faq"), imported_dataset(ctx, "prompts")
    seed = finished_run(ctx, JobKind.TRAIN_SEED, {"corpus": data}, WEIGHTS)
    converted = finished_run(ctx, JobKind.CONVERT_GGUF, {"model": seed, "dataset": prompts}, {"m.gguf": b""}, PARITY)
    assert [entry["ref"] for entry in lineage(ctx, converted)["datasets"]] == [data]  # type: ignore[attr-defined]


def test_what_a_model_wrote_marks_every_model_made_from_it(people: tuple[Context, Context, Context]) -> None:
    alice, _, _ = people
    mark = {"model": "writer@1", "from": "faq@1"}
    synthetic, plain = stored_dataset(alice, "written", train=b"{}\n", synthetic=mark), imported_dataset(alice, "faq")
    seed = finished_run(alice, JobKind.TRAIN_SEED, {"corpus": synthetic}, WEIGHTS)
    found = lineage(alice, seed, "seed")
    assert found["datasets"][0]["synthetic"] == mark  # type: ignore[index]
    assert found["synthetic"] == [synthetic]
    tuned = finished_run(
        alice, JobKind.TRAIN_LORA, {"base": "seed@1", "dataset": plain}, {"model.safetensors": b"tuned"}
    )
    found = lineage(alice, tuned, "tuned")
    assert found["synthetic"] == [synthetic]
    assert "synthetic" not in found["datasets"][0]  # type: ignore[index]
