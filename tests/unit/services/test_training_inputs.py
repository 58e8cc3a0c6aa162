"""Runs whose inputs cannot serve them are refused in the plan and at submission, before a job exists."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from appliance.api import types as t
from appliance.kernel.errors import BadInput
from appliance.services import campaigns, jobs, kfolds, searches
from appliance.services.context import Context
from appliance.services.recipes import list_recipes
from appliance.services.training_plans import plan_training
from appliance.training.recipes.registry import RECIPES
from tests.factories.appliance import imported_dataset, imported_model, stored_dataset

_SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 30,
}
_LAYERS = ("model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj", "model.norm")
_GENERATES = ("train.lora", "train.full", "train.dpo", "train.pretrain")


def folder(family: str, *architectures: str, **files: bytes) -> dict[str, bytes]:
    shapes: dict[str, list[int]] = {f"{name}.weight": [8] if "norm" in name else [3, 5] for name in _LAYERS}
    header = json.dumps(
        {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 60]} for name, shape in shapes.items()}
    ).encode()
    config = _SIZES | {"model_type": family} | ({"architectures": list(architectures)} if architectures else {})
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": struct.pack("<Q", len(header)) + header,
        **{name.replace("_json", ".json"): data for name, data in files.items()},
    }


def body(ctx: Context, kind: str, files: dict[str, bytes], **parameters: Any) -> t.SubmitJob:
    known = RECIPES[kind.removeprefix("train.")]
    inputs = {"base": imported_model(ctx, "base", files)}
    inputs |= {
        name: imported_dataset(ctx, form=known.learns_from[0]) for name in known.inputs.values() if name[0] != "b"
    }
    return t.SubmitJob(kind=kind, inputs=inputs, parameters=parameters)


@pytest.mark.parametrize("ask", [plan_training, jobs.submit])
@pytest.mark.parametrize("kind", _GENERATES)
def test_an_encoder_does_not_learn_to_write(
    ctx: Context, kind: str, ask: Callable[[Context, t.SubmitJob], object]
) -> None:
    with pytest.raises(BadInput) as refused:
        ask(ctx, body(ctx, kind, folder("bert")))
    assert refused.value.code == "model.no_generator"
    assert (
        refused.value.message == f"base@1 is an encoder (bert) and writes nothing; {kind} needs a model that generates."
    )
    assert "train classify" in refused.value.hint
    assert not [job for job in jobs.list_jobs(ctx, {}) if job.kind == kind]


@pytest.mark.parametrize("kind", _GENERATES)
def test_a_model_that_generates_does(ctx: Context, kind: str) -> None:
    assert plan_training(ctx, body(ctx, kind, folder("llama", "LlamaForCausalLM"))).memory.fits


@pytest.mark.parametrize("kind", ["train.classify", "train.tag"])
def test_a_model_that_generates_is_no_encoder(ctx: Context, kind: str) -> None:
    with pytest.raises(BadInput) as refused:
        plan_training(ctx, body(ctx, kind, folder("llama")))
    assert refused.value.code == "model.no_encoder"


@pytest.mark.parametrize("start", ["kfold", "search"])
def test_a_campaign_is_refused_before_its_first_job(ctx: Context, start: str) -> None:
    base, data = imported_model(ctx, "encoder", folder("bert")), imported_dataset(ctx)
    recipe = f"{{recipe: lora, base: {base}, data: {data}}}"
    search = f"recipe: {recipe}\nspace:\n  rank: {{low: 2, high: 4}}\n"
    with pytest.raises(BadInput) as refused:
        _ = (
            kfolds.submit(ctx, t.SubmitKfold(text=recipe))
            if start == "kfold"
            else searches.submit(ctx, t.SubmitSearch(text=search))
        )
    assert refused.value.code == "model.no_generator"
    assert campaigns.list_campaigns(ctx) == ()


def test_layers_that_the_base_does_not_have_are_refused_in_the_plan(ctx: Context) -> None:
    files = folder("llama")
    with pytest.raises(BadInput) as refused:
        plan_training(ctx, body(ctx, "train.lora", files, targets=["q_porj", "v_proj"]))
    assert refused.value.code == "training.targets"
    assert refused.value.message == "base@1 has no layer q_porj."
    assert refused.value.hint == "targets may name embed_tokens, q_proj, v_proj."
    again = body(ctx, "train.lora", files, targets=["q_proj", "v_proj"])
    assert plan_training(ctx, again).memory.fits


@pytest.mark.parametrize("kind", ["train.classify", "train.tag"])
def test_data_without_held_out_rows_are_refused_in_the_plan_and_do_for_a_fold(ctx: Context, kind: str) -> None:
    form = RECIPES[kind.removeprefix("train.")].learns_from[0]
    inputs = {
        "base": imported_model(ctx, "base", folder("bert")),
        "dataset": stored_dataset(ctx, "all", train=b"{}\n" * 9, form=form),
    }
    asked = t.SubmitJob(kind=kind, inputs=inputs)
    for ask in (plan_training, jobs.submit):
        with pytest.raises(BadInput) as refused:
            ask(ctx, asked)
        assert refused.value.code == "training.no_heldout"
        assert refused.value.message.startswith("all@1 has no held-out rows")
        assert "dataset split all@1" in refused.value.hint
    folded = t.SubmitJob(kind=kind, inputs=inputs, folded=True)
    assert plan_training(ctx, folded).memory.fits


def labelled(ctx: Context, counts: list[int], *, shown: int = 200) -> t.SubmitJob:
    """A classification on a data set with so many training rows of each label."""
    table = [{"label": str(at), "train": rows, "heldout": 0} for at, rows in enumerate(sorted(counts, reverse=True))]
    train = {"rows": sum(counts), "labels": len(counts)}
    data = stored_dataset(
        ctx,
        "intents",
        train=b"{}\n" * sum(counts),
        heldout=b"{}\n",
        form="classification",
        statistics={"train": train},
        labels=table[:shown],
    )
    inputs = {"base": imported_model(ctx, "base", folder("bert")), "dataset": data}
    return t.SubmitJob(kind="train.classify", inputs=inputs)


@pytest.mark.parametrize("counts", [[1] * 1368, [1] * 60 + [9], [1] * 300 + [2] * 20])
def test_labels_of_one_row_each_are_refused_in_the_plan(ctx: Context, counts: list[int]) -> None:
    with pytest.raises(BadInput) as refused:
        plan_training(ctx, labelled(ctx, counts))
    assert refused.value.code == "training.too_many_labels"
    assert refused.value.message.startswith(f"intents@1 has {len(counts):,} labels for {sum(counts):,} training rows")
    assert "swapped" in refused.value.hint


@pytest.mark.parametrize("counts", [[5, 5, 5], [1, 5, 5], [1] * 60 + [200, 300], [3] * 300])
def test_a_few_rare_labels_are_not(ctx: Context, counts: list[int]) -> None:
    assert plan_training(ctx, labelled(ctx, counts)).memory.fits


@pytest.mark.parametrize(
    ("files", "form", "code"),
    [
        (folder("bert", intramuros_head_json=b"{}"), "chat", "model.no_generator"),
        (folder("bert", "BertForSequenceClassification"), "text", "model.no_generator"),
        (folder("bert", "BertModel"), "classification", "model.no_classifier"),
        (folder("bert", intramuros_head_json=b"{}"), "classification", ""),
        (folder("bert", "BertForSequenceClassification"), "classification", ""),
        (folder("llama", "LlamaForCausalLM"), "classification", ""),
        (folder("llama", "LlamaForCausalLM"), "chat", ""),
    ],
)
def test_a_model_is_evaluated_on_rows_that_it_can_answer(
    ctx: Context, files: dict[str, bytes], form: str, code: str
) -> None:
    inputs = {"model": imported_model(ctx, "made", files), "dataset": imported_dataset(ctx, form=form)}
    asked = t.SubmitJob(kind="evaluate", inputs=inputs)
    if not code:
        assert jobs.submit(ctx, asked).state == "queued"
        return
    with pytest.raises(BadInput) as refused:
        jobs.submit(ctx, asked)
    assert refused.value.code == code
    assert refused.value.message.startswith("made@1 is an encoder (bert)")
    assert "import it again" not in refused.value.hint


def test_recipes_tell_what_their_base_must_do(ctx: Context) -> None:
    told = {recipe.name: [one.does for one in recipe.inputs if one.word == "base"] for recipe in list_recipes(ctx)}
    assert {name: does for name, does in told.items() if does} == {
        "lora": ["generate"],
        "full": ["generate"],
        "pretrain": ["generate"],
        "dpo": ["generate"],
        "classify": ["encode"],
        "tag": ["encode"],
        "distil": [""],
        "prune": [""],
    }
