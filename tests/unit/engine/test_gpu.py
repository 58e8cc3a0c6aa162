"""Layers on a GPU compute what the processor computes. Skipped where the engine sees none.

A software device serves: `apt install mesa-vulkan-drivers`, the Vulkan plug-in beside the portable wheel, and
GGML_VK_VISIBLE_DEVICES=0 in the environment, because llama.cpp passes over devices that are processors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.catalog.gguf_header import read_gguf_header
from appliance.engine.llama_context import LlamaContext, LlamaModel
from appliance.engine.scheduler import Chunk, Sequence
from appliance.weights.gpu import gpus
from appliance.weights.llama_devices import Ggml
from tests.factories.tiny_llama import LAYERS, make_tiny_gguf

TOKENS = [int(token) for token in np.random.default_rng(0).integers(0, 380, 60)]


def test_without_layers_a_model_stays_on_the_processor(model: LlamaModel) -> None:
    assert (model.gpu, model.gpu_layers) == ("", 0)


@pytest.mark.skipif(not gpus(Ggml()), reason="the engine sees no GPU here")
@pytest.mark.parametrize("layers", [1, LAYERS, 99])
def test_layers_on_a_gpu_compute_the_same(tmp_path: Path, layers: int) -> None:
    file = make_tiny_gguf(tmp_path)
    assert read_gguf_header(file).layers == LAYERS
    alone, placed = LlamaModel(file), LlamaModel(file, gpu_layers=layers)
    assert (placed.gpu, placed.gpu_layers) == (gpus(Ggml())[0].name, min(layers, LAYERS + 1))
    expected, found = _answer(alone), _answer(placed)
    np.testing.assert_allclose(found[1], expected[1], atol=0.05)
    assert found[0] == expected[0]


def _answer(model: LlamaModel) -> tuple[list[int], np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """The sixteen likeliest next tokens, one after the other, and the first row of logits."""
    context = LlamaContext(model, cells=256, batch=128, ubatch=128, sequences=2, threads=1)
    tokens, first = list(TOKENS), None
    done = 0
    while len(tokens) < len(TOKENS) + 16:
        sequence = Sequence(tenant="t", tokens=tokens, prompt=len(tokens), limit=200, slot=0)
        context.decode([Chunk(sequence, done, len(tokens) - done, last=True)])
        row = context.logits(1)[0].copy()
        first = row if first is None else first
        done = len(tokens)
        tokens.append(int(row.argmax()))
    assert first is not None
    return tokens[len(TOKENS) :], first
