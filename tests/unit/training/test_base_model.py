"""Bases as they are held while adapters learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from appliance.training.base_model import load_base
from appliance.training.nf4 import Nf4Linear
from appliance.weights.loading import load_model, stored_dtype
from tests.factories.tiny_llama import make_tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose weights are bfloat16, as most are published."""
    made = tmp_path_factory.mktemp("base") / "hf"
    make_tiny_llama(made)
    AutoModelForCausalLM.from_pretrained(made, dtype=torch.bfloat16).save_pretrained(made)
    return made


def test_a_base_is_held_in_nf4_from_its_own_format_to_the_same_bits(folder: Path) -> None:
    assert stored_dtype(folder) is torch.bfloat16
    held = dict(load_base(folder, held_in="nf4").model.named_modules())
    whole = load_model(folder).model
    compared = 0
    for name, layer in whole.named_modules():
        mine = held[name]
        if isinstance(mine, Nf4Linear):
            again = Nf4Linear(layer)
            assert torch.equal(mine.weight, again.weight)
            assert torch.equal(mine.scales, again.scales)  # type: ignore[arg-type]
            compared += 1
        else:
            for one, other in zip(mine.parameters(recurse=False), layer.parameters(recurse=False), strict=True):
                assert one.dtype is torch.float32
                assert torch.equal(one, other)
    assert compared == 7 * whole.config.num_hidden_layers


def test_a_base_in_half_precision_keeps_its_bits(folder: Path) -> None:
    held = load_base(folder, held_in="bfloat16").model.state_dict()
    whole = load_model(folder).model.state_dict()
    assert all(held[name].dtype is torch.bfloat16 for name in whole)
    assert all(torch.equal(held[name].float(), whole[name]) for name in whole)


def test_weights_in_several_formats_count_as_float32(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "hf")
    assert stored_dtype(tmp_path / "hf") is torch.float32
