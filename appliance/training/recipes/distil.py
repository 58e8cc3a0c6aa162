"""The recipe of `train.distil`: a smaller model learns to answer as its teacher does."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.training.recipes.base import Recipe
from appliance.training.recipes.load import Load


class DistilRecipe(Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Distil a teacher into a student (Hinton et al. 2015)."""

    keep_layers: tuple[Annotated[int, Meta(ge=0, le=1024)], ...] = ()
    """Without a base the student is the teacher with these layers, such as [0, 2, 5]. Empty keeps every second one."""
    temperature: Annotated[float, Meta(gt=0, le=100)] = 2.0
    """Both models' answers are softened by it before they are compared."""
    hard_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Part of the loss that comes from the data's own labels or answers instead of the teacher."""
    top: Annotated[int, Meta(ge=1, le=1024)] = 64
    """How many of a generating teacher's likeliest tokens are kept at each place; classifiers keep every label."""
    max_length: Annotated[int, Meta(ge=8, le=131072)] = 256
    """Longer texts are cut, longer conversations left out; both are counted."""
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Passes over the training part."""
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 32
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 3e-4
    """Peak of the schedule."""
    warmup_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.1

    def load(self) -> Load:
        """Every weight of the student is trained, and the teacher is there while its answers are computed."""
        return Load(batch_size=self.batch_size, accumulation=self.accumulation, sequence_length=self.max_length)

    def steps_for(self, rows: int) -> int | None:
        """Every row once an epoch."""
        return self.epochs * -(-rows // (self.batch_size * self.accumulation))

    def fault(self) -> str:
        """A layer is kept once."""
        return "keep_layers names a layer twice" if len(set(self.keep_layers)) != len(self.keep_layers) else ""
