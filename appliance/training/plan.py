"""Predicts a training job's peak memory before it starts, and proposes what would fit.

Pure arithmetic over a model's shape: no torch, no model is loaded. The constants were fitted to
measured peaks of Llamas on CPU; `python -m benchmarks.memory_plan` measures them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.kernel.errors import BadInput
from appliance.training.recipes.load import Load
from appliance.training.recipes.seed import SeedRecipe
from appliance.training.weight_headers import parameters_in

_FLOAT = 4
_PROCESS = 380 << 20
"""Resident size of a job process that has imported torch, transformers and peft and trains nothing."""
_RANK = 480 << 20
"""The same of one of several ranks, with what its exchanges with the others leave in the heap."""
_LAUNCHER = 255 << 20
"""Resident size of a job process that only starts ranks."""
_PER_TOKEN_HIDDEN = 22.2
"""Values of hidden size that one layer keeps per token for the backward pass."""
_PER_TOKEN_INTERMEDIATE = 3
"""Values of intermediate size that one layer keeps per token."""
_PER_TOKEN_LOGITS = 3.2
"""Copies of the logits that are alive at once."""
_PER_TOKEN_ADAPTER = 1.6
"""Copies of each projection's input that its adapter adds: 1.1 measured with oneDNN's products, 2.1 with MKL's."""
_PER_TOKEN_DROPOUT = 1.5
"""Copies that dropout in front of the adapter adds to them: what it let through, and its mask."""
_HALF = 0.68
"""Part of a layer's activations that is left when products are computed in bfloat16."""
_HALF_BASE = 0.4
"""The same when the frozen weights are held in bfloat16, so that nothing between them is float32."""
_HALF_ADAPTER = 0.9
"""The same of what its adapter adds, which keeps copies in both formats."""
_LAYERS_AT_ONCE = 2.0
"""Layers whose activations are alive at once when each is computed again for the backward pass."""
_SCATTERED_GRADIENTS = 0.8
"""Gradients that are made between activations leave holes in memory: this part of them is lost with accumulation."""
_SCATTERED_ACTIVATIONS = 0.2
"""The same of a batch's activations."""
_MASK_BYTES = 5
"""Bytes for each pair of positions of a packed sequence: whether one sees the other, and the same as a number."""
_PER_DATA_BYTE = 5.0
"""Bytes held for each byte of rows: 4.4 measured for conversations, 4.5 for packed texts, 5.7 for short labelled ones,
with 2.9 to 4 bytes a token. What reading them leaves in the heap is the same again as their tokens."""
_NF4_BITS = 4.5
"""Four bits a weight, and a 32-bit scale for 64 of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of a transformer that decide its memory. `parameters` counts tied weights once."""

    parameters: int
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    vocabulary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Predicted bytes at the peak (of each box, where several train), what is available, and what would fit."""

    weights: int
    training_state: int
    activations: int
    process: int
    available: int
    data: int = 0
    merging: int = 0
    """what the merge takes beyond the training: it is into the base as it was given, in float32"""
    proposals: tuple[str, ...] = ()

    @property
    def training(self) -> int:
        """Predicted peak of the training alone."""
        return self.weights + self.training_state + self.activations + self.data + self.process

    @property
    def total(self) -> int:
        """Predicted peak resident size in bytes."""
        return self.training + self.merging

    @property
    def fits(self) -> bool:
        return self.total <= self.available

    def require(self) -> None:
        """Raise BadInput (`training.memory`) with the proposals when the job does not fit."""
        if self.fits:
            return
        raise BadInput(
            "training.memory",
            f"The job needs about {_mib(self.total)} of memory and {_mib(self.available)} are available.",
            hint=" Or ".join(self.proposals) or "Free memory, or use a smaller base model or data set.",
        )


def plan_memory(shape: ModelShape, load: Load, *, available: int) -> MemoryPlan:
    """Return the plan for a load, with proposals that keep the size of a step where it does not fit."""
    plan = predict(shape, load, available=available)
    return plan if plan.fits else replace(plan, proposals=_propose(shape, load, available=available))


def predict(shape: ModelShape, load: Load, *, available: int) -> MemoryPlan:
    """Predict the peak. Trained values cost a gradient and two moments; activations grow with batch x length."""
    trained = trained_parameters(shape, load)
    activations = _activations(shape, load)
    # A gradient, two moments, and the best weights where they are kept. A checkpoint is written without a copy.
    state = trained * (4 if load.keeps_best else 3) * _FLOAT
    if load.accumulation > 1 or load.gradient_checkpointing:
        state += int(_SCATTERED_GRADIENTS * trained * _FLOAT)
    if load.accumulation > 1:
        activations *= 1 + _SCATTERED_ACTIVATIONS
    weights = _held_weights(shape, load)
    if load.ranks > 1:  # each loads them whole before it keeps its piece; gathered layers use that room again
        weights *= 1 + load.ranks
    plan = MemoryPlan(
        weights=weights // load.boxes,
        training_state=state // load.boxes,
        activations=int(activations / load.boxes),
        process=_PROCESS if load.ranks == 1 else load.ranks * _RANK // load.boxes + _LAUNCHER,
        data=int(_PER_DATA_BYTE * load.data) * load.ranks // load.boxes,
        available=available,
    )
    if load.base_bits == 8 * _FLOAT:
        return plan
    # The held weights have been given up by then; the adapters learnt on them have not.
    merge = (shape.parameters + 2 * trained) * _FLOAT + _PROCESS
    return replace(plan, merging=max(0, merge - plan.training))


def trained_parameters(shape: ModelShape, load: Load) -> int:
    """Return how many values learn."""
    if not load.adapter_rank:
        return shape.parameters
    return adapter_parameters(shape, load.adapter_rank, load.targets)


def adapter_parameters(shape: ModelShape, rank: int, targets: tuple[str, ...] = ()) -> int:
    """Return how many values LoRA trains on the seven projections of each layer, or on those of these names."""
    return shape.layers * rank * sum(given + made for given, made in _projections(shape, targets))


def shape_of_seed(recipe: SeedRecipe) -> ModelShape:
    """Return the shape of the model that a seed recipe builds (tied embeddings)."""
    hidden, wide = recipe.hidden_size, recipe.intermediate_size
    narrow = hidden * recipe.kv_heads // recipe.heads
    layer = 2 * hidden * hidden + 2 * hidden * narrow + 3 * hidden * wide + 2 * hidden
    return ModelShape(
        parameters=recipe.vocabulary * hidden + recipe.layers * layer + hidden,
        layers=recipe.layers,
        hidden_size=hidden,
        intermediate_size=wide,
        heads=recipe.heads,
        kv_heads=recipe.kv_heads,
        vocabulary=recipe.vocabulary,
    )


_DISTILBERT = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
}
"""what others call so -> its own name for it"""


def shape_of_folder(folder: Path) -> ModelShape:
    """Read a Hugging Face folder's shape from config.json and the headers of its safetensors files.

    Raises BadInput (`training.shape_unknown`) when a size is missing.
    """
    try:
        config: Mapping[str, Any] = dict(json.loads((folder / "config.json").read_bytes()))
        parameters = parameters_in(folder)
        if config.get("model_type") == "distilbert":
            config = {**config, **{name: config[own] for name, own in _DISTILBERT.items()}}
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return ModelShape(
            parameters=parameters,
            layers=int(config["num_hidden_layers"]),
            hidden_size=hidden,
            intermediate_size=int(config.get("intermediate_size") or 4 * hidden),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            vocabulary=int(config["vocab_size"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "training.shape_unknown",
            f"The base model's sizes cannot be read: {type(error).__name__} {error}.",
            hint="Training needs a Hugging Face folder with config.json and safetensors weights.",
        ) from error


def _projections(shape: ModelShape, targets: tuple[str, ...] = ()) -> list[tuple[int, int]]:
    """Return what goes into and comes out of each projection of a layer; unknown names count as the widest."""
    hidden, wide = shape.hidden_size, shape.intermediate_size
    narrow = hidden * shape.kv_heads // shape.heads
    known = {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, narrow),
        "v_proj": (hidden, narrow),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, wide),
        "up_proj": (hidden, wide),
        "down_proj": (wide, hidden),
    }
    return [known.get(name, (hidden, wide)) for name in targets or known]


def _held_weights(shape: ModelShape, load: Load) -> int:
    """Return the bytes of the model's own weights as they are held, and of its adapters."""
    if not load.adapter_rank:
        return shape.parameters * _FLOAT
    adapters = trained_parameters(shape, load) * _FLOAT
    if load.base_bits == 4:
        linear = shape.layers * sum(given * made for given, made in _projections(shape))
        return int(linear * _NF4_BITS / 8) + max(0, shape.parameters - linear) * _FLOAT + adapters
    return shape.parameters * load.base_bits // 8 + adapters


def _activations(shape: ModelShape, load: Load) -> float:
    """Return the bytes that a batch keeps between its forward and its backward pass."""
    layer: float = _PER_TOKEN_HIDDEN * shape.hidden_size + _PER_TOKEN_INTERMEDIATE * shape.intermediate_size
    if load.base_bits == 16:
        layer *= _HALF_BASE
    elif load.half_precision:
        layer *= _HALF
    if load.adapter_rank:
        copies = _PER_TOKEN_ADAPTER + (_PER_TOKEN_DROPOUT if load.dropout else 0.0)
        inputs = sum(given for given, _ in _projections(shape, load.targets))
        layer += (copies * inputs + 7 * load.adapter_rank) * (_HALF_ADAPTER if load.half_precision else 1.0)
    layers = shape.layers * layer
    if load.gradient_checkpointing:
        layers = shape.layers * shape.hidden_size + min(shape.layers, _LAYERS_AT_ONCE) * layer
    tokens = load.batch_size * load.copies * load.sequence_length
    mask = tokens * load.sequence_length * _MASK_BYTES if load.packed else 0
    return mask + tokens * (layers + _PER_TOKEN_LOGITS * shape.vocabulary) * _FLOAT


def _propose(shape: ModelShape, load: Load, *, available: int) -> tuple[str, ...]:
    """Return what would fit, each by itself; the first two keep the size of a step and what is learnt."""

    def fits(**changes: Any) -> bool:
        return predict(shape, replace(load, **changes), available=available).fits

    proposals = []
    batch_size = load.batch_size
    while batch_size > load.ranks:
        batch_size = max((batch_size + 1) // 2, load.ranks)
        accumulation = -(-load.batch_size * load.accumulation // batch_size)
        if fits(batch_size=batch_size, accumulation=accumulation):
            proposals.append(f"Use batch_size {batch_size} with accumulation {accumulation}.")
            break
    if load.ranks > 1 and fits(ranks=1, boxes=1):
        proposals.append("Use ranks 1.")
    checkpointing = load.may_checkpoint and not load.gradient_checkpointing
    if checkpointing and fits(gradient_checkpointing=True):
        proposals.append("Use gradient_checkpointing true.")
    if load.may_quantise and load.base_bits > 4 and fits(base_bits=4):
        proposals.append("Use base_precision nf4.")
    shorter = load.sequence_length
    while shorter > 32:
        shorter //= 2
        if fits(sequence_length=shorter):
            proposals.append(f"Use sequences of {shorter} tokens.")
            break
    least = load.ranks  # each needs a row
    accumulation = -(-load.batch_size * load.accumulation // least)
    smallest = {"batch_size": least, "accumulation": accumulation, "gradient_checkpointing": True}
    if checkpointing and not proposals and fits(**smallest):
        proposals.append(f"Use batch_size {least} with accumulation {accumulation} and gradient_checkpointing true.")
    return tuple(proposals)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
