"""The recipe of `train.lora`: low-rank adapters on a base model (Hu et al. 2021)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.training.recipes.base import Recipe
from appliance.training.recipes.load import Load


class LoraRecipe(Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fine-tune a base model by low-rank adapters on every linear layer but the output; the result is merged."""

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
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 3e-3
    """Peak of the schedule."""

    def load(self) -> Load:
        """The adapter alone is trained."""
        return Load(
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            sequence_length=self.max_length,
            adapter_rank=self.rank,
        )

    def steps_for(self, rows: int) -> int | None:
        """Every conversation once an epoch."""
        return self.epochs * -(-rows // (self.batch_size * self.accumulation))
