"""What a person may choose about a training run: two recipes, validated where they come in.

Knows no torch, so that the daemon can refuse a bad recipe before a job exists. A recipe is part of the run's
identity; every field has a default with which the shipped examples train well on two cores. A learning rate
that ruins a model is allowed: it is a choice, and the quality gates are there to catch it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, overload

import msgspec
from msgspec import Meta

from appliance.kernel.errors import BadInput

_Fraction = Annotated[float, Meta(ge=0, le=1)]
_LearningRate = Annotated[float, Meta(gt=0, le=100)]


class _Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both kinds of training share."""

    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 4
    """Sequences in memory at once."""
    accumulation: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Batches whose gradients make one step; the loss is the mean over all their target tokens."""
    warmup_fraction: _Fraction = 0.05
    """Part of the steps in which the learning rate rises linearly."""
    final_learning_rate_fraction: _Fraction = 0.05
    """Where the cosine ends, as a part of the learning rate."""
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Decoupled decay (AdamW) of matrices; vectors are not decayed."""
    clip_norm: Annotated[float, Meta(gt=0)] = 1.0
    """Largest norm of the whole gradient."""
    checkpoint_seconds: Annotated[float, Meta(ge=0)] = 15.0
    """Longest time that a power cut may cost; 0 seals a checkpoint after every step."""


class SeedRecipe(_Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train a small Llama and its tokenizer from nothing. Default: 2.2 million parameters."""

    vocabulary: Annotated[int, Meta(ge=300, le=65536)] = 2048
    """Most tokens the tokenizer may have; a small corpus may give fewer."""
    hidden_size: Annotated[int, Meta(ge=16, le=8192)] = 256
    """Width of the residual stream."""
    intermediate_size: Annotated[int, Meta(ge=16, le=32768)] = 512
    """Width of the feed-forward layers."""
    layers: Annotated[int, Meta(ge=1, le=128)] = 3
    """Transformer blocks."""
    heads: Annotated[int, Meta(ge=1, le=128)] = 4
    """Attention heads for queries."""
    kv_heads: Annotated[int, Meta(ge=1, le=128)] = 2
    """Attention heads for keys and values (grouped-query attention)."""
    context_length: Annotated[int, Meta(ge=64, le=131072)] = 1024
    """Longest sequence the model may be served with, in tokens."""
    sequence_length: Annotated[int, Meta(ge=16, le=131072)] = 128
    """Tokens of one training sequence."""
    steps: Annotated[int, Meta(ge=1, le=10_000_000)] = 1000
    """Optimiser steps."""
    learning_rate: _LearningRate = 2e-3
    """Peak of the schedule: linear warm-up, then a cosine."""


class LoraRecipe(_Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fine-tune a base model by low-rank adapters (Hu et al. 2021) on every linear layer but the output."""

    rank: Annotated[int, Meta(ge=1, le=256)] = 16
    """Rank of the adapters: width of the low-rank update of each matrix."""
    alpha: Annotated[float, Meta(gt=0, le=1024)] = 32.0
    """Adapters are scaled by alpha / rank."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """Dropout in front of the adapters."""
    max_length: Annotated[int, Meta(ge=16, le=131072)] = 512
    """Longer conversations are left out, and counted."""
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 10
    """Passes over the training part."""
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 8
    learning_rate: _LearningRate = 3e-3
    """Peak of the schedule: linear warm-up, then a cosine."""


Recipe = SeedRecipe | LoraRecipe


@overload
def parse_recipe(kind: Literal["train.seed"], parameters: Mapping[str, Any]) -> SeedRecipe: ...
@overload
def parse_recipe(kind: Literal["train.lora"], parameters: Mapping[str, Any]) -> LoraRecipe: ...
@overload
def parse_recipe(kind: str, parameters: Mapping[str, Any]) -> Recipe: ...


def parse_recipe(kind: str, parameters: Mapping[str, Any]) -> Recipe:
    """Return the validated recipe of a job kind. Raises BadInput (`recipe.invalid`) naming the field."""
    forms: dict[str, type[Recipe]] = {"train.seed": SeedRecipe, "train.lora": LoraRecipe}
    if kind not in forms:
        raise BadInput("recipe.invalid", f"{kind} is not a kind of training.", hint="Use train.seed or train.lora.")
    try:
        recipe: Recipe = msgspec.convert(dict(parameters), forms[kind])
    except msgspec.ValidationError as error:
        raise _invalid(kind, str(error)) from error
    if isinstance(recipe, SeedRecipe) and (fault := _shape_fault(recipe)):
        raise _invalid(kind, fault)
    return recipe


def _shape_fault(recipe: SeedRecipe) -> str:
    """Say which sizes do not fit together, or return an empty string."""
    if recipe.hidden_size % recipe.heads:
        return f"hidden_size {recipe.hidden_size} is not a multiple of heads {recipe.heads}"
    if recipe.heads % recipe.kv_heads:
        return f"heads {recipe.heads} is not a multiple of kv_heads {recipe.kv_heads}"
    if (recipe.hidden_size // recipe.heads) % 2:
        return "hidden_size / heads must be even, because positions are rotated in pairs"
    if recipe.sequence_length > recipe.context_length:
        return f"sequence_length {recipe.sequence_length} is above context_length {recipe.context_length}"
    return ""


def _invalid(kind: str, fault: str) -> BadInput:
    return BadInput("recipe.invalid", f"The recipe for {kind} is not valid: {fault}.", hint="Correct that parameter.")
