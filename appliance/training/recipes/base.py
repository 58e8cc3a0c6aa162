"""What every recipe shares: the fields of the optimiser and the loop, and what the planner asks of a recipe.

Knows no torch, so that the daemon can refuse a bad recipe before a job exists. A recipe is part of the run's identity;
every field has a default with which the shipped examples train well on two cores. A learning rate that ruins a model is
allowed: it is a choice, and the quality gates are there to catch it.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from appliance.training.recipes.load import Load


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all kinds of training share."""

    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 4
    """Sequences in memory at once."""
    accumulation: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Batches whose gradients make one step; the loss is the mean over all their target tokens."""
    warmup_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.05
    """Part of the steps in which the learning rate rises linearly."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    final_learning_rate_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.05
    """Where the schedule ends, as a part of the learning rate; a constant one does not fall."""
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Decoupled decay (AdamW) of matrices; vectors are not decayed."""
    clip_norm: Annotated[float, Meta(gt=0)] = 1.0
    """Largest norm of the whole gradient."""
    checkpoint_seconds: Annotated[float, Meta(ge=0)] = 15.0
    """Longest time that a power cut may cost, or ten times what a checkpoint takes, if that is more; 0 seals one after
    every step."""

    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 1e-3
    """Peak of the schedule."""

    def load(self) -> Load:
        """Return what this recipe asks of the machine's memory, at its longest sequences."""
        raise NotImplementedError

    def steps_for(self, rows: int) -> int | None:
        """Return the optimiser steps on that many training rows; None where only the tokens will tell."""
        raise NotImplementedError

    @property
    def half_precision(self) -> bool:
        """Whether products are computed in bfloat16."""
        return False

    def fault(self) -> str:
        """Say which fields do not fit together, or return an empty string."""
        return ""


class Measured(Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all kinds share that may measure on the way, keep the best weights, and stop early."""

    evaluate_every: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    """Set a part of the training rows aside, measure the loss on it every so many steps and keep the best weights; 0
    learns from every row and keeps the last. Held-out rows choose nothing."""
    validation_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    """How much of the training rows evaluate_every sets aside."""
    patience: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Stop when so many measurements in a row have brought nothing better; 0 never stops early."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the products in the forward and backward pass; weights and optimiser stay float32."""

    @property
    def half_precision(self) -> bool:
        """As the field says."""
        return self.precision == "bfloat16"

    def set_aside(self, rows: int) -> int:
        """Return how many of so many training rows are not learned from."""
        return math.ceil(self.validation_fraction * rows) if self.evaluate_every else 0

    def steps_in(self, epochs: int, rows: int) -> int:
        """Return the optimiser steps of some passes over what is learned of so many training rows."""
        return epochs * -(-(rows - self.set_aside(rows)) // (self.batch_size * self.accumulation))

    def fault(self) -> str:
        """Patience counts measurements, so there must be some."""
        return "patience needs evaluate_every" if self.patience and not self.evaluate_every else ""


class OnBase(Measured, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all kinds that start from a base model share."""

    gradient_checkpointing: bool = False
    """Keep each layer's input alone and compute the rest again for the backward pass: less memory, about a third more
    time."""


class Conversing(OnBase, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all kinds that learn from conversations share."""

    max_length: Annotated[int, Meta(ge=16, le=131072)] = 512
    """Longer conversations are left out, and counted."""
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 3
    """Passes over the training part."""
    chat_template: str = ""
    """A Jinja template to use in place of the base model's own, and to hand on with the result; for a base model that
    has none."""
