from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from appliance.kernel.errors import BadInput
from appliance.training.plan import (
    adapter_parameters,
    plan_memory,
    predict,
    shape_of_folder,
    shape_of_seed,
)
from appliance.training.recipes.load import Load
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.recipes.seed import SeedRecipe

GIB = 1 << 30
SHAPE = shape_of_seed(SeedRecipe(hidden_size=1024, intermediate_size=4096, layers=12, heads=16, kv_heads=4))
LOAD = Load(batch_size=32, accumulation=1, sequence_length=512)


def test_what_fits_is_not_refused() -> None:
    plan = plan_memory(SHAPE, LOAD, available=1000 * GIB)
    assert plan.fits
    assert plan.proposals == ()
    plan.require()


def test_what_does_not_fit_is_refused_with_proposals_that_fit() -> None:
    needed = predict(SHAPE, LOAD, available=0).total
    plan = plan_memory(SHAPE, LOAD, available=needed // 2)
    assert not plan.fits
    with pytest.raises(BadInput, match="MiB are available") as refused:
        plan.require()
    assert refused.value.code == "training.memory"
    assert "batch_size" in refused.value.hint
    batch_size, accumulation = (int(word.rstrip(".")) for word in plan.proposals[0].split() if word[0].isdigit())
    assert batch_size * accumulation >= LOAD.batch_size
    assert predict(SHAPE, replace(LOAD, batch_size=batch_size), available=needed // 2).fits


def test_nothing_is_proposed_when_the_weights_alone_do_not_fit() -> None:
    plan = plan_memory(SHAPE, LOAD, available=1)
    assert plan.proposals == ()
    with pytest.raises(BadInput, match="needs about"):
        plan.require()


def test_accumulation_costs_little_however_much_it_is_and_adapters_save_memory() -> None:
    whole = predict(SHAPE, LOAD, available=0)
    twice, often = (predict(SHAPE, replace(LOAD, accumulation=times), available=0) for times in (2, 8))
    assert twice.total == often.total < 1.25 * whole.total
    assert predict(SHAPE, replace(LOAD, adapter_rank=8), available=0).training_state < whole.training_state / 20


def test_a_seed_recipes_shape_is_counted_exactly() -> None:
    assert shape_of_seed(SeedRecipe(vocabulary=1729, layers=4, intermediate_size=768)).parameters == 3_590_656


def test_adapters_are_counted_exactly() -> None:
    shape = shape_of_seed(SeedRecipe(layers=4, intermediate_size=768))
    assert adapter_parameters(shape, 16) == 4 * 16 * (2 * 512 + 2 * 384 + 3 * 1024)


def test_a_folder_tells_its_shape_without_loading_it(tmp_path: Path) -> None:
    config = {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 30,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    shape = shape_of_folder(tmp_path)
    assert (shape.parameters, shape.kv_heads, shape.vocabulary) == (22, 2, 30)
    own = {"model_type": "distilbert", "dim": 8, "n_layers": 2, "n_heads": 4, "hidden_dim": 16, "vocab_size": 30}
    (tmp_path / "config.json").write_text(json.dumps(own))
    assert shape_of_folder(tmp_path) == replace(shape, kv_heads=4)


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_folder_without_sizes_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadInput) as refused:
        shape_of_folder(tmp_path)
    assert refused.value.code == "training.shape_unknown"


def test_recipes_tell_their_load() -> None:
    seed, lora = SeedRecipe(batch_size=3), LoraRecipe(rank=5, max_length=99)
    assert seed.load() == Load(batch_size=3, accumulation=1, sequence_length=seed.sequence_length)
    assert lora.load() == Load(
        batch_size=lora.batch_size,
        accumulation=1,
        sequence_length=99,
        adapter_rank=5,
        may_checkpoint=True,
        may_quantise=True,
    )


def test_every_way_to_save_memory_saves_some() -> None:
    lora = Load(batch_size=8, accumulation=1, sequence_length=512, adapter_rank=16)
    whole = predict(SHAPE, lora, available=0)
    assert predict(SHAPE, replace(lora, base_bits=4), available=0).weights < whole.weights / 3
    assert predict(SHAPE, replace(lora, base_bits=16), available=0).weights < whole.weights * 0.6
    for saving in ({"gradient_checkpointing": True}, {"half_precision": True}, {"dropout": False}):
        assert predict(SHAPE, replace(lora, **saving), available=0).activations < whole.activations  # type: ignore[arg-type]
    assert predict(SHAPE, replace(lora, targets=("q_proj",)), available=0).training_state < whole.training_state / 5


def test_pairs_and_kept_weights_cost_memory() -> None:
    assert predict(SHAPE, replace(LOAD, copies=2), available=0).activations == (
        2 * predict(SHAPE, LOAD, available=0).activations
    )
    kept = predict(SHAPE, replace(LOAD, keeps_best=True), available=0).training_state
    assert kept == predict(SHAPE, LOAD, available=0).training_state + 4 * SHAPE.parameters


def test_ranks_cost_a_process_and_the_weights_each_and_proposals_leave_every_rank_a_row() -> None:
    load = replace(LOAD, ranks=4)
    one, four = (predict(SHAPE, asked, available=0) for asked in (LOAD, load))
    assert (four.training_state, four.activations) == (one.training_state, one.activations)
    assert four.weights == 5 * one.weights
    plan = plan_memory(SHAPE, load, available=one.total)
    assert not plan.fits
    assert "Use ranks 1." in plan.proposals
    tight = plan_memory(SHAPE, replace(load, batch_size=4, may_checkpoint=True), available=four.total // 2)
    assert not any("batch_size 1 " in proposal or "batch_size 2 " in proposal for proposal in tight.proposals)


def test_only_what_a_recipe_can_do_is_proposed() -> None:
    able = replace(LOAD, may_checkpoint=True)
    needed = predict(SHAPE, LOAD, available=0).total
    assert "Use gradient_checkpointing true." in plan_memory(SHAPE, able, available=needed // 2).proposals
    assert not any("checkpoint" in text for text in plan_memory(SHAPE, LOAD, available=needed // 2).proposals)
    lora = Load(batch_size=1, accumulation=1, sequence_length=32, adapter_rank=4, may_quantise=True)
    held = predict(SHAPE, replace(lora, base_bits=4), available=0)
    tight = held.total
    assert predict(SHAPE, lora, available=0).merging == 0
    assert held.training < tight  # the merge is into the whole base
    assert 4 * SHAPE.parameters < tight < predict(SHAPE, lora, available=0).total
    assert plan_memory(SHAPE, lora, available=tight).proposals == ("Use base_precision nf4.",)


def test_where_no_single_step_helps_all_of_them_are_proposed() -> None:
    able = replace(LOAD, may_checkpoint=True)
    smallest = replace(able, batch_size=1, accumulation=LOAD.batch_size, gradient_checkpointing=True)
    enough = predict(SHAPE, smallest, available=0).total + 1
    (proposal,) = plan_memory(SHAPE, able, available=enough).proposals
    assert proposal == f"Use batch_size 1 with accumulation {LOAD.batch_size} and gradient_checkpointing true."


def test_boxes_share_what_ranks_take_and_each_starts_its_own() -> None:
    alone = predict(SHAPE, replace(LOAD, ranks=4, data=100 << 20), available=0)
    shared = predict(SHAPE, replace(LOAD, ranks=4, data=100 << 20, boxes=2), available=0)
    assert shared.weights == alone.weights // 2
    assert shared.training_state == alone.training_state // 2
    assert shared.data == alone.data // 2
    assert alone.process < 2 * shared.process < alone.process + (300 << 20)


def test_rows_take_memory_on_every_rank() -> None:
    plain, filled = (predict(SHAPE, replace(LOAD, data=data), available=0) for data in (0, 100 << 20))
    assert filled.total == plain.total + filled.data
    assert 300 << 20 < filled.data < 700 << 20
    assert predict(SHAPE, replace(LOAD, data=100 << 20, ranks=2), available=0).data == 2 * filled.data
