"""Cuts: what leaves is gone, what stays computes what the whole computes without the parts that left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from appliance.kernel.errors import BadInput
from appliance.training.recipes.prune import PruneRecipe
from appliance.training.shrink.cuts import Parts, every_second, kept_channels, plan_cut
from appliance.training.shrink.importance import (
    Importance,
    importance_by_rows,
    importance_by_weights,
    most_important,
)
from appliance.training.shrink.layout import LAYOUTS, layout_of
from appliance.training.shrink.surgery import Cut, head_shape, write_cut
from tests.factories.tiny_encoder import make_tiny_bert

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
TOKENS = torch.tensor([[3, 7, 11, 2, 30, 5, 9]])


def llama(folder: Path, *, qwen: bool = False) -> Path:
    torch.manual_seed(5)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE)) if qwen else LlamaForCausalLM(LlamaConfig(**SHAPE))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


def cut(base: Path, output: Path, **kept: Any) -> Path:
    output.mkdir(parents=True)
    family = json.loads((base / "config.json").read_text())["model_type"]
    write_cut(base, output, layout_of(family), Cut(**kept))
    return output


def silenced(base: Path, output: Path, silence: dict[str, Any]) -> Path:
    """The same model with rows or columns set to 0: what leaving should amount to."""
    output.mkdir(parents=True)
    tensors = load_file(base / "model.safetensors")
    for name, change in silence.items():
        change(tensors[name])
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    (output / "config.json").write_bytes((base / "config.json").read_bytes())
    return output


def logits(folder: Path) -> torch.Tensor:
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=TOKENS).logits
    return found


@pytest.mark.parametrize("qwen", [False, True])
def test_groups_and_channels_of_a_llama_leave_as_if_they_were_silent(tmp_path: Path, qwen: bool) -> None:
    base = llama(tmp_path / "base", qwen=qwen)
    kept = tuple(range(0, 64, 2))
    made = cut(base, tmp_path / "cut", layers=(0, 1, 2), channels=(kept,) * 3, groups=((1,), (0,), (1,)))
    silence: dict[str, Any] = {}
    for layer, group in enumerate((1, 0, 1)):
        silence[f"model.layers.{layer}.mlp.down_proj.weight"] = lambda weight: weight[:, 1::2].zero_()
        gone = slice(0, 16) if group == 1 else slice(16, 32)
        silence[f"model.layers.{layer}.self_attn.o_proj.weight"] = lambda weight, gone=gone: weight[:, gone].zero_()
    expected = logits(silenced(base, tmp_path / "silent", silence))
    assert torch.allclose(logits(made), expected, atol=1e-4)
    assert not torch.allclose(logits(base), expected, atol=1e-2)
    config = json.loads((made / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (2, 1, 8)
    assert config["intermediate_size"] == 32
    assert (made / "model.safetensors").stat().st_size < 0.75 * (base / "model.safetensors").stat().st_size


def test_layers_leave_and_the_others_move_up(tmp_path: Path) -> None:
    base = llama(tmp_path / "base")
    made = cut(base, tmp_path / "cut", layers=(0, 2))
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    del model.model.layers[1]
    with torch.inference_mode():
        expected = model(input_ids=TOKENS, use_cache=False).logits
    assert torch.allclose(logits(made), expected, atol=1e-5)


def test_a_bert_loses_layers_and_channels_and_keeps_the_rest(tmp_path: Path) -> None:
    base = make_tiny_bert(tmp_path / "base")
    kept = tuple(range(32))
    made = cut(base, tmp_path / "cut", layers=(1,), channels=(kept,))
    whole = AutoModel.from_pretrained(base).eval()
    del whole.encoder.layer[0]
    with torch.no_grad():
        whole.encoder.layer[0].output.dense.weight[:, 32:].zero_()
    smaller, loading = AutoModel.from_pretrained(made, output_loading_info=True)
    assert not any(loading[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.inference_mode():
        one, other = (model.eval()(input_ids=TOKENS).last_hidden_state for model in (whole, smaller))
    assert torch.allclose(one, other, atol=1e-5)
    assert (made / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        cut(make_tiny_bert(tmp_path / "base"), tmp_path / "cut", layers=(0, 2))
    assert refused.value.code == "training.no_such_layer"


def test_rows_find_the_layer_that_does_nothing_and_the_channels_that_carry_nothing(tmp_path: Path) -> None:
    base = llama(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    for name in ("mlp.down_proj", "self_attn.o_proj"):
        tensors[f"model.layers.1.{name}.weight"].zero_()
    tensors["model.layers.0.mlp.up_proj.weight"][10:50].zero_()
    tensors["model.layers.2.self_attn.v_proj.weight"][:8].zero_()
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    layout, shape = LAYOUTS["llama"], head_shape(SHAPE)
    for found in (
        importance_by_rows(model, layout, shape, [TOKENS[0].tolist(), [4, 4, 8]]),
        importance_by_weights(model, layout, shape),
    ):
        assert not set(most_important(found.channels[0], 20)) & set(range(10, 50))
        assert most_important(found.groups[2], 1) == (1,)
    by_rows = importance_by_rows(model, layout, shape, [TOKENS[0].tolist()])
    assert by_rows.layers[1] == pytest.approx(0, abs=1e-6)
    assert most_important(torch.tensor(by_rows.layers), 2) == (0, 2)


PARTS = Parts(layers=4, channels=64, groups=2)
MEASURED = Importance(
    layers=(0.4, 0.1, 0.2, 0.3),
    channels=tuple(torch.arange(64.0) for _ in range(4)),
    groups=tuple(torch.tensor([0.0, float(layer % 2 or -1)]) for layer in range(4)),
)


def test_a_recipe_becomes_a_cut() -> None:
    made = plan_cut(PruneRecipe(drop_layers=2, drop_channels=0.5, drop_groups=1), PARTS, MEASURED)
    assert made.layers == (0, 3)
    assert made.channels == (tuple(range(32, 64)),) * 2
    assert made.groups == ((0,), (1,))
    assert plan_cut(PruneRecipe(keep_layers=(3, 1)), PARTS, MEASURED) == Cut(layers=(1, 3))


@pytest.mark.parametrize(
    ("recipe", "parts", "code"),
    [
        (PruneRecipe(drop_layers=4), PARTS, "training.nothing_left"),
        (PruneRecipe(drop_groups=2), PARTS, "training.nothing_left"),
        (PruneRecipe(keep_layers=(4,)), PARTS, "training.no_such_layer"),
        (PruneRecipe(drop_groups=1), Parts(layers=4, channels=64, groups=0), "training.heads_tied"),
    ],
)
def test_cuts_that_cannot_be_made_are_refused(recipe: PruneRecipe, parts: Parts, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        plan_cut(recipe, parts, MEASURED)
    assert refused.value.code == code


def test_numbers_of_what_stays() -> None:
    assert [every_second(count) for count in (1, 2, 3, 6, 12)] == [(0,), (0,), (0, 2), (0, 2, 5), (0, 2, 4, 7, 9, 11)]
    assert [kept_channels(1536, part) for part in (0.5, 0.25, 0.99)] == [768, 1152, 32]
    assert kept_channels(10, 0.5) == 5


def test_an_architecture_without_a_layout_is_refused() -> None:
    with pytest.raises(BadInput) as refused:
        layout_of("gpt2")
    assert refused.value.code == "training.not_prunable"
