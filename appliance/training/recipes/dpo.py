"""The recipe of `train.dpo`: direct preference optimisation (Rafailov et al. 2023) from pairs of answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.training.recipes.base import Conversing
from appliance.training.recipes.load import Load


class DpoRecipe(Conversing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Teach a model which of two answers is preferred, without leaving what it was far behind."""

    beta: Annotated[float, Meta(gt=0, le=100)] = 0.1
    """How strongly the model is held to what it was; larger holds it more."""
    label_smoothing: Annotated[float, Meta(ge=0, lt=0.5)] = 0.0
    """Part of the pairs that is assumed to be the wrong way round."""
    rank: Annotated[int, Meta(ge=0, le=256)] = 16
    """Rank of the adapters; 0 trains every weight."""
    alpha: Annotated[float, Meta(gt=0, le=1024)] = 32.0
    """Adapters are scaled by alpha / rank."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Dropout in front of the adapters."""
    targets: tuple[str, ...] = ()
    """Names of the linear layers that get an adapter; empty means all but the output."""
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 3e-4

    def load(self) -> Load:
        """A pair is two sequences."""
        return Load(
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            sequence_length=self.max_length,
            adapter_rank=self.rank,
            targets=self.targets,
            dropout=self.dropout > 0,
            copies=2,
            half_precision=self.half_precision,
            gradient_checkpointing=self.gradient_checkpointing,
            may_checkpoint=True,
            keeps_best=self.evaluate_every > 0,
        )

    def steps_for(self, rows: int) -> int | None:
        """Every pair once an epoch."""
        return self.steps_in(self.epochs, rows)
