"""The recipe of `train.seed`: a small Llama and its tokenizer, from nothing."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.training.recipes.base import Recipe
from appliance.training.recipes.load import Load


class SeedRecipe(Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 2e-3

    def load(self) -> Load:
        """Every weight is trained on full sequences."""
        return Load(batch_size=self.batch_size, accumulation=self.accumulation, sequence_length=self.sequence_length)

    def steps_for(self, rows: int) -> int | None:
        """As many as the recipe says."""
        return self.steps

    def fault(self) -> str:
        """Sizes of heads must divide the width."""
        if self.hidden_size % self.heads:
            return f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
        if self.heads % self.kv_heads:
            return f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}"
        if (self.hidden_size // self.heads) % 2:
            return "hidden_size / heads must be even, because positions are rotated in pairs"
        if self.sequence_length > self.context_length:
            return f"sequence_length {self.sequence_length} is above context_length {self.context_length}"
        return ""
