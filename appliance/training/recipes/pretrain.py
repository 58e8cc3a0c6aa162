"""The recipe of `train.pretrain`: a base model goes on reading plain text, before it is taught to answer."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.training.recipes.base import OnBase
from appliance.training.recipes.load import Load


class PretrainRecipe(OnBase, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Continue the pre-training of every weight on text; documents are packed and none of them sees another."""

    sequence_length: Annotated[int, Meta(ge=16, le=131072)] = 512
    """Tokens of one sequence; a longer document becomes several."""
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Passes over the training part."""
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 3e-4

    def load(self) -> Load:
        """Every weight has a gradient and two moments; sequences are full."""
        return Load(
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            sequence_length=self.sequence_length,
            half_precision=self.half_precision,
            gradient_checkpointing=self.gradient_checkpointing,
            may_checkpoint=True,
            packed=True,
            keeps_best=self.evaluate_every > 0,
        )

    def steps_for(self, rows: int) -> int | None:
        """The tokens decide."""
        return None
