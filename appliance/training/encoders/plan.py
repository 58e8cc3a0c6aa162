"""Predicts the memory of jobs on text encoders, and of those that shrink a model. Pure arithmetic over a model's shape.

What differs from the general plan: an encoder has no logits over its vocabulary, and while it is trained with dropout
in its attention, the shares of every head are kept. The one constant was fitted to measured peaks of a BERT of 22
million parameters on CPU: batches of 8 x 64, 16 x 128 and 32 x 128 tokens, all within 4 % of the prediction.
"""

from __future__ import annotations

from dataclasses import replace

from appliance.training.plan import MemoryPlan, ModelShape, predict
from appliance.training.recipes.load import Load

_FLOAT = 4
_LABELS = 4096
"""Scores of a text at most; nothing beside the rest."""
_SHORTEST = 32
_SHARES = 2.2
"""Copies of the attention shares (heads x time x time) that one layer keeps for the backward pass."""


def encoder_memory(shape: ModelShape, load: Load, *, available: int) -> MemoryPlan:
    """Return the plan of training a whole encoder, with proposals where it does not fit."""
    plan = _trained(shape, load, available=available)
    if plan.fits:
        return plan
    proposals = []
    smaller = load
    while smaller.batch_size > 1:
        size = (smaller.batch_size + 1) // 2
        smaller = replace(smaller, batch_size=size, accumulation=-(-load.batch_size * load.accumulation // size))
        if _trained(shape, smaller, available=available).fits:
            proposals.append(f"Use batch_size {size} with accumulation {smaller.accumulation}.")
            break
    shorter = load
    while shorter.sequence_length > _SHORTEST:
        shorter = replace(shorter, sequence_length=shorter.sequence_length // 2)
        if _trained(shape, shorter, available=available).fits:
            proposals.append(f"Use max_length {shorter.sequence_length}.")
            break
    return replace(plan, proposals=tuple(proposals))


def shrinking_memory(shape: ModelShape, load: Load, *, trained: bool, encodes: bool, available: int) -> MemoryPlan:
    """Return the plan of pruning (the model twice) or of distilling (the teacher beside its student in training)."""
    plan = predict(_with_labels(shape, load) if encodes else shape, load, available=available)
    plan = replace(plan, weights=2 * plan.weights)
    if not trained:
        return replace(plan, training_state=0)
    shares = _attention_shares(shape, load) if encodes else 0
    return replace(plan, activations=plan.activations + shares)


def _trained(shape: ModelShape, load: Load, *, available: int) -> MemoryPlan:
    plan = predict(_with_labels(shape, load), load, available=available)
    return replace(plan, activations=plan.activations + _attention_shares(shape, load))


def _with_labels(shape: ModelShape, load: Load) -> ModelShape:
    """Return the shape with the head's labels, once for each text, in place of the words at each position."""
    return replace(shape, vocabulary=_LABELS // load.sequence_length)


def _attention_shares(shape: ModelShape, load: Load) -> int:
    each = shape.heads * load.batch_size * load.sequence_length**2
    return int(_SHARES * shape.layers * each) * _FLOAT
