"""Classifiers, taggers, students and pruned models as the services see them: planned, refused, registered, traced."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from appliance.api import types as t
from appliance.catalog.purpose import kind_of
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, Conflict
from appliance.services import jobs, models
from appliance.services.context import Context
from appliance.services.serving_options import artifact_of
from appliance.services.training_plans import plan_training
from appliance.training.recipes.registry import recipe_kind
from appliance.weights.head import ARCHITECTURE
from tests.factories.appliance import finished_run, imported_dataset, imported_model

_SIZES = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
}
_HEADER = json.dumps({"a": {"dtype": "F32", "shape": [22_000_000], "data_offsets": [0, 88_000_000]}}).encode()
_REPORTED = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "intramuros_head.json": b"{}",
    "report/report.json": b"{}",
    "report/predictions.jsonl": b"somebody's text",
}
_CLASSIFIER = {"architecture": "bert", "head": ARCHITECTURE, "labels": ["a", "b"], "parameters": 7}


def folder(family: str) -> dict[str, bytes]:
    config = json.dumps(_SIZES | {"model_type": family}).encode()
    return {"config.json": config, "model.safetensors": struct.pack("<Q", len(_HEADER)) + _HEADER}


def body(ctx: Context, kind: str, family: str = "bert", **parameters: Any) -> t.SubmitJob:
    learns_from = recipe_kind(kind).learns_from
    word = "teacher" if kind == "train.distil" else "base"
    inputs = {word: imported_model(ctx, family, folder(family)), "dataset": imported_dataset(ctx, form=learns_from[0])}
    return t.SubmitJob(kind=kind, inputs=inputs, parameters=parameters)


@pytest.mark.parametrize("kind", ["train.classify", "train.tag", "train.distil", "train.prune"])
def test_an_encoders_vocabulary_costs_no_activations(ctx: Context, kind: str) -> None:
    plan = plan_training(ctx, body(ctx, kind, batch_size=32, max_length=128))
    mib = 1 << 20
    assert plan.memory.fits
    assert plan.memory.activations < 1600 * mib  # logits over 30,522 words would be as much again
    assert plan.memory.weights >= 22_000_000 * 4
    assert (plan.memory.training_state == 0) is (kind == "train.prune")


@pytest.mark.parametrize("kind", ["train.classify", "train.tag"])
def test_what_generates_is_refused_before_a_job_exists(ctx: Context, kind: str) -> None:
    asked = body(ctx, kind, "llama")
    with pytest.raises(BadInput) as refused:
        jobs.submit(ctx, asked)
    assert refused.value.code == "model.no_encoder"
    assert [job.kind for job in jobs.list_jobs(ctx, {})].count(kind) == 0


def test_a_run_that_would_change_nothing_is_refused(ctx: Context) -> None:
    with pytest.raises(BadInput) as refused:
        jobs.submit(ctx, body(ctx, "train.prune", drop_channels=0))
    assert refused.value.code == "recipe.invalid"


def test_a_classifier_is_registered_without_the_texts_it_was_measured_on(ctx: Context) -> None:
    inputs = {"base": imported_model(ctx, "minilm", folder("bert")), "dataset": imported_dataset(ctx)}
    run = finished_run(ctx, JobKind.TRAIN_CLASSIFY, inputs, _REPORTED, _CLASSIFIER)
    detail = models.register(ctx, t.RegisterModel(name="intents", run=run))
    assert {entry.path for entry in detail.files} == {"config.json", "model.safetensors", "intramuros_head.json"}
    assert kind_of(detail.description) == "classify"
    from appliance.services.records import find_model

    with ctx.appliance.database.read() as connection:
        artifact = artifact_of(find_model(connection, "intents@1"), "classify")
    assert {entry.path for entry in artifact.files} == {entry.path for entry in detail.files}


def test_a_teacher_stays_while_its_student_does(ctx: Context) -> None:
    data = imported_dataset(ctx)
    teacher, base = imported_model(ctx, "teacher", folder("bert")), imported_model(ctx, "small", folder("roberta"))
    for name, inputs in (("alone", {}), ("based", {"base": base})):
        given = {"teacher": teacher, "dataset": data, **inputs}
        run = finished_run(ctx, JobKind.TRAIN_DISTIL, given, {"model.safetensors": name.encode()})
        lineage = models.register(ctx, t.RegisterModel(name=name, run=run)).lineage
        assert lineage["teacher"]["ref"] == teacher
        assert lineage["base"]["ref"] == (base if inputs else teacher)
    with pytest.raises(Conflict, match="model alone@1, model based@1"):
        models.remove(ctx, teacher)
