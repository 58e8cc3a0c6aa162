"""The recipe of `train.classify`: a head on a frozen encoder first, then the whole encoder if it helps."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from appliance.training.recipes.base import Measured
from appliance.training.recipes.load import Load


class ClassifyRecipe(Measured, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Classify texts with an encoder."""

    method: Literal["auto", "baseline", "finetune"] = "auto"
    """What becomes the result: baseline (the encoder stays as it is and a regression reads its vectors), finetune (the
    whole encoder is trained from there), or auto: the fine-tuned one only if McNemar's test on the held-out part
    says that it gained."""
    significance: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    """Largest probability of chance at which a difference counts as a gain or a loss."""
    folds: Annotated[int, Meta(ge=2, le=20)] = 5
    """Parts of the training rows over which the regression's strength is chosen by cross-validation. Held-out rows
    choose nothing."""
    class_weights: bool = False
    """Weigh each label by how rare it is, so that rare labels count as much as common ones."""
    max_length: Annotated[int, Meta(ge=4, le=131072)] = 256
    """Longer texts are cut to so many tokens, and counted; the encoder's own limit holds too."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """Dropout in front of the head while the encoder is trained."""
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 2
    """Passes over the training part."""
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 32
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 1e-4
    """Peak of the schedule."""
    warmup_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.1
    checkpoint_seconds: Annotated[float, Meta(ge=0)] = 60.0

    def load(self) -> Load:
        """Every weight is trained, unless there is only the regression."""
        return Load(
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            sequence_length=self.max_length,
            half_precision=self.half_precision,
            keeps_best=self.evaluate_every > 0,
        )

    def steps_for(self, rows: int) -> int | None:
        """Every text once an epoch; the regression counts no steps."""
        if self.method == "baseline":
            return None
        return self.steps_in(self.epochs, rows)
