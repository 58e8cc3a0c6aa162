"""What an export holds in each layout, and registering rungs and adapters."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from appliance.access.roles import Role
from appliance.api import types as t
from appliance.jobs.spec import FileEntry, JobKind
from appliance.kernel.errors import BadInput, Forbidden
from appliance.services import jobs, model_export, models
from appliance.services.context import Appliance, Context
from tests.factories.appliance import (
    WEIGHTS,
    context,
    finish_job,
    finished_run,
    imported_dataset,
    imported_model,
    trail,
)

FOLDER = {
    "config.json": json.dumps({"architectures": ["LlamaForCausalLM"], "dtype": "float32"}).encode(),
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}).encode(),
    "README.md": b"# Somebody's own words",
}
ADAPTER = {"adapter/adapter_config.json": b"{}", "adapter/adapter_model.safetensors": b"low rank"}
RUNG = {"name": "Q8_0", "made": True, "parity": {"passed": True, "rung": "Q8_0"}, "perplexity_ratio": 1.001}


@pytest.fixture
def tuned(ctx: Context) -> str:
    """`run:…`, a LoRA run with its adapter."""
    data, base = imported_dataset(ctx), imported_model(ctx, "base", WEIGHTS, licence="MIT")
    return finished_run(ctx, JobKind.TRAIN_LORA, {"base": base, "dataset": data}, FOLDER | ADAPTER)


@pytest.fixture
def served(ctx: Context, tuned: str) -> str:
    run = finished_run(
        ctx, JobKind.CONVERT_GGUF, {"model": tuned}, {"model.gguf": b"gguf"}, {"parity": {"passed": True}}
    )
    return models.register(ctx, t.RegisterModel(name="assistant", run=run)).model.ref


def export(ctx: Context, ref: str, layout: str) -> dict[str, t.ExportFile]:
    plan = model_export.export(ctx, ref, t.ExportModel(layout=layout))
    assert trail(ctx)[-1] == ("model.export", "done")
    return {file.path: file for file in plan.files}


def test_the_hugging_face_layout_has_a_card_from_the_lineage(ctx: Context, served: str) -> None:
    files = export(ctx, served, "huggingface")
    assert set(files) == {*FOLDER, *ADAPTER, "README.original.md"}
    card = files["README.md"].text
    head = yaml.safe_load(card.split("---")[1])
    assert head == {
        "library_name": "transformers",
        "license": "mit",
        "pipeline_tag": "text-generation",
        "base_model": "base@1",
        "datasets": ["faq@1"],
    }
    assert "assistant@1" in card
    assert "Nothing was measured." in card
    assert "Run `" in card


def test_the_gguf_layout_is_the_file_and_the_card(ctx: Context, served: str) -> None:
    assert set(export(ctx, served, "gguf")) == {"model.gguf", "README.md"}


def test_the_mlflow_layout_reads_as_yaml_and_names_what_is_there(ctx: Context, served: str) -> None:
    files = export(ctx, served, "mlflow")
    document = yaml.safe_load(files["MLmodel"].text)
    flavour = document["flavors"]["transformers"]
    assert flavour["pipeline_model_type"] == "LlamaForCausalLM"
    assert flavour["tokenizer_type"] == "PreTrainedTokenizerFast"
    assert flavour["task"] == "text-generation"
    assert document["flavors"]["python_function"]["loader_module"] == "mlflow.transformers"
    assert "components/tokenizer/tokenizer.json" in files
    assert "model/model.safetensors" in files
    assert yaml.safe_load(files["conda.yaml"].text)["dependencies"][-1]["pip"]
    assert yaml.safe_load(files["python_env.yaml"].text)["dependencies"] == ["-r requirements.txt"]
    pins = files["requirements.txt"].text.splitlines()
    assert all("==" in pin for pin in pins)


def test_what_a_version_does_not_have_cannot_be_exported(ctx: Context, appliance: Appliance, tuned: str) -> None:
    ref = models.register(ctx, t.RegisterModel(name="assistant", run=tuned)).model.ref
    with pytest.raises(BadInput, match=r"export\.not_there: assistant@1 has no GGUF file"):
        export(ctx, ref, "gguf")
    with pytest.raises(BadInput, match=r"export\.layout"):
        export(ctx, ref, "onnx")
    auditor = context(appliance, user="eve", roles=frozenset({Role.AUDITOR}))
    with pytest.raises(Forbidden):
        export(auditor, ref, "huggingface")


def ladder(ctx: Context, tuned: str) -> str:
    job = jobs.submit(ctx, t.SubmitJob(kind="convert.ladder", inputs={"model": tuned}, parameters={"to": ["Q8_0"]}))
    spec = jobs.show(ctx, job.id, {}).spec
    assert spec["inputs"]["dataset"]["ref"] == "faq@1"
    finish_job(
        ctx,
        job.id,
        {"Q8_0/model.gguf": b"eight", "report.json": b"{}"},
        {"rungs": [RUNG, {"name": "Q4_K_M", "made": False}], "architecture": "llama", "parameters": 7},
    )
    return f"run:{job.id}"


def test_a_rung_becomes_a_version_with_what_it_cost(ctx: Context, tuned: str) -> None:
    run = ladder(ctx, tuned)
    detail = models.register(ctx, t.RegisterModel(name="small", run=run, rung="Q8_0"))
    assert {entry.path for entry in detail.files} == {*FOLDER, *ADAPTER, "model.gguf"}
    assert detail.model.formats == ("safetensors", "gguf")
    assert detail.description["quantised"]["perplexity_ratio"] == 1.001
    assert detail.description["parity"]["rung"] == "Q8_0"
    assert detail.lineage["base"]["ref"] == "base@1"
    assert [run["kind"] for run in detail.lineage["runs"]] == ["convert.ladder", "train.lora"]
    assert detail.model.licence == "MIT"


@pytest.mark.parametrize("rung", ["", "Q4_K_M", "Q2"])
def test_a_rung_that_was_not_made_cannot_be_registered(ctx: Context, tuned: str, rung: str) -> None:
    with pytest.raises(BadInput, match=r"run\.no_rung"):
        models.register(ctx, t.RegisterModel(name="small", run=ladder(ctx, tuned), rung=rung))


def test_only_a_ladder_has_rungs(ctx: Context, tuned: str) -> None:
    with pytest.raises(BadInput, match=r"run\.no_rung"):
        models.register(ctx, t.RegisterModel(name="small", run=tuned, rung="Q8_0"))


def test_an_adapter_is_kept_beside_its_model(ctx: Context, served: str) -> None:
    job = jobs.submit(ctx, t.SubmitJob(kind="convert.adapter", inputs={"model": served}))
    inputs: dict[str, Any] = jobs.show(ctx, job.id, {}).spec["inputs"]
    assert {entry["path"] for entry in inputs["adapter"]["files"]} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert inputs["base"]["ref"] == "base@1"
    finish_job(ctx, job.id, {"adapter/adapter.gguf": b"lora"}, {"passed": True, "gguf_bytes": 4})
    detail = models.register(ctx, t.RegisterModel(name="assistant", run=f"run:{job.id}"))
    assert detail.model.ref == "assistant@2"
    paths = {entry.path: entry for entry in detail.files}
    assert {"model.gguf", "adapter/adapter.gguf"} <= paths.keys()
    assert isinstance(paths["model.gguf"], FileEntry)
    assert detail.description["adapter"]["passed"] is True
    assert detail.description["parity"]["passed"] is True
    assert [run["kind"] for run in detail.lineage["runs"]] == ["convert.adapter", "convert.gguf", "train.lora"]
    assert detail.lineage["base"]["ref"] == "base@1"
    assert "adapter/adapter.gguf" in export(ctx, detail.model.ref, "gguf")


def test_a_model_without_an_adapter_is_told(ctx: Context) -> None:
    base = imported_model(ctx, "base", WEIGHTS)
    with pytest.raises(BadInput, match=r"model\.no_adapter"):
        jobs.submit(ctx, t.SubmitJob(kind="convert.adapter", inputs={"model": base}))
    with pytest.raises(BadInput, match=r"conversion\.no_data"):
        jobs.submit(ctx, t.SubmitJob(kind="convert.ladder", inputs={"model": base}))
