"""Predicts the memory of jobs on text encoders, and of those that shrink a model. Pure arithmetic over a model's shape.

Beside what the general plan knows, an encoder has no logits over its vocabulary: a few labels take their place. The
constants were fitted to measured peaks of BERT on CPU.
"""

from __future__ import annotations

from dataclasses import replace

from appliance.training.plan import MemoryPlan, ModelShape, plan_memory, predict
from appliance.training.recipes.load import Load

_LABELS = 4096
"""Scores kept per text at most; nothing beside the rest."""


def encoder_memory(shape: ModelShape, load: Load, *, available: int) -> MemoryPlan:
    """Return the plan of training a whole encoder, with proposals where it does not fit.

    Vectors of the words are trained, but their number decides no activation: the head's labels do.
    """
    return plan_memory(replace(shape, vocabulary=_LABELS // load.sequence_length), load, available=available)


def shrinking_memory(shape: ModelShape, load: Load, *, trained: bool, encodes: bool, available: int) -> MemoryPlan:
    """Return the plan of pruning (the model twice) or of distilling (the teacher beside its student in training)."""
    if encodes:
        shape = replace(shape, vocabulary=_LABELS // load.sequence_length)
    whole = predict(shape, load, available=available)
    teacher = whole.weights
    if trained:
        return replace(whole, weights=whole.weights + teacher)
    return replace(whole, weights=whole.weights + teacher, training_state=0)
