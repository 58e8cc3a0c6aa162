"""The recipe of `train.tag`: an encoder that marks spans of a text, such as names."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.training.recipes.base import Measured
from appliance.training.recipes.load import Load


class TagRecipe(Measured, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mark spans of texts with an encoder."""

    labels: tuple[str, ...] = ()
    """Labels of the spans that are learned; empty means all of the data set. Other spans count as plain text."""
    max_length: Annotated[int, Meta(ge=8, le=131072)] = 256
    """Longer texts are cut to so many tokens, and counted; the encoder's own limit holds too."""
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 5
    """Passes over the training part."""
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 16
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 3e-4
    """Peak of the schedule."""
    warmup_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.1
    checkpoint_seconds: Annotated[float, Meta(ge=0)] = 60.0

    def load(self) -> Load:
        """Every weight is trained."""
        return Load(
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            sequence_length=self.max_length,
            half_precision=self.half_precision,
            keeps_best=self.evaluate_every > 0,
        )

    def steps_for(self, rows: int) -> int | None:
        """Every text once an epoch."""
        return self.steps_in(self.epochs, rows)
