"""The recipe of `train.prune`: whole layers, key-value groups and feed-forward channels leave the model."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from appliance.training.recipes.base import Recipe
from appliance.training.recipes.load import Load


class PruneRecipe(Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make a model smaller by taking parts out of it; nothing is trained."""

    keep_layers: tuple[Annotated[int, Meta(ge=0, le=1024)], ...] = ()
    """Layers that stay, counted from 0, such as [0, 2, 5]. Empty means that drop_layers chooses."""
    drop_layers: Annotated[int, Meta(ge=0, le=1024)] = 0
    """How many layers leave, those first that change what goes through them least."""
    drop_channels: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Part of the feed-forward channels of each layer that leaves, the least important first. Left out: a quarter
    where nothing else is told to leave, else none."""
    drop_groups: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Key-value groups of each layer that leave, each with its query heads; only for Llama-like models."""
    importance: Annotated[int, Meta(ge=1, le=100_000)] | Literal["weights"] = 64
    """Training rows on which importance is measured, or weights: judge by the size of the weights alone. Layers
    always need rows."""
    max_length: Annotated[int, Meta(ge=8, le=131072)] = 128
    """Rows are cut to so many tokens while importance and quality are measured."""
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 16

    @property
    def channels_to_drop(self) -> float:
        """Part of the channels that leaves."""
        if self.drop_channels is not None:
            return self.drop_channels
        return 0.0 if self.keep_layers or self.drop_layers or self.drop_groups else 0.25

    def load(self) -> Load:
        """A model in memory twice, and no training state."""
        return Load(batch_size=self.batch_size, accumulation=1, sequence_length=self.max_length)

    def steps_for(self, rows: int) -> int | None:
        """There are no optimiser steps."""
        return None

    def fault(self) -> str:
        """Something must leave, and layers are chosen in one way."""
        if self.keep_layers and self.drop_layers:
            return "keep_layers and drop_layers exclude each other"
        if len(set(self.keep_layers)) != len(self.keep_layers):
            return "keep_layers names a layer twice"
        if not (self.keep_layers or self.drop_layers or self.drop_groups or self.channels_to_drop):
            return "nothing is taken out; set keep_layers, drop_layers, drop_channels or drop_groups"
        if self.drop_layers and self.importance == "weights":
            return "drop_layers needs rows; set importance to a number"
        return ""
