"""The recipe of `train.full`: every weight of a base model learns from conversations."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from appliance.fleet.inventory import BoxName
from appliance.training.recipes.base import Conversing
from appliance.training.recipes.load import Load


class FullRecipe(Conversing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fine-tune every weight of a base model: the most that can be learnt, and four times its memory."""

    packing: bool = False
    """Fill each sequence with whole conversations up to max_length; none of them sees another."""
    loss_on: Literal["answers", "all"] = "answers"
    """Which tokens carry loss: the assistant's turns with their end, or everything."""
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 3e-4

    ranks: Annotated[int, Meta(ge=1, le=64)] = 1
    """Processes that share the weights and the rows of each batch (FSDP2); a part of the run's identity."""
    boxes: tuple[BoxName, ...] = ()
    """Boxes of the fleet that train, each with the same number of ranks; the first one writes the model. None: this box
    alone."""

    def fault(self) -> str:
        """The best weights are not kept piece by piece, and every rank needs a row."""
        if self.ranks > 1 and self.evaluate_every:
            return "ranks above 1 need evaluate_every 0"
        if self.ranks > self.batch_size:
            return f"ranks {self.ranks} is above batch_size {self.batch_size}, so some would have no row"
        if len(set(self.boxes)) != len(self.boxes):
            return "boxes names a box twice"
        if self.boxes and self.ranks % len(self.boxes):
            return f"ranks {self.ranks} cannot be shared out evenly among {len(self.boxes)} boxes"
        return super().fault()

    def load(self) -> Load:
        """Every weight has a gradient and two moments."""
        return Load(
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            sequence_length=self.max_length,
            half_precision=self.half_precision,
            gradient_checkpointing=self.gradient_checkpointing,
            may_checkpoint=True,
            packed=self.packing,
            keeps_best=self.evaluate_every > 0,
            ranks=self.ranks,
            boxes=len(self.boxes) or 1,
        )

    def steps_for(self, rows: int) -> int | None:
        """Every conversation once an epoch."""
        return None if self.packing else self.steps_in(self.epochs, rows)
