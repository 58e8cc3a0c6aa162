"""The recipe of `train.lora`: low-rank adapters (Hu et al. 2021), on a base in NF4 known as QLoRA (Dettmers 2023)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from appliance.training.recipes.base import Conversing
from appliance.training.recipes.load import Load

_BITS = {"float32": 32, "bfloat16": 16, "nf4": 4}


class LoraRecipe(Conversing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fine-tune a base model by low-rank adapters on its linear layers; the result is merged."""

    rank: Annotated[int, Meta(ge=1, le=256)] = 16
    """Rank of the adapters: width of the low-rank update of each matrix."""
    alpha: Annotated[float, Meta(gt=0, le=1024)] = 32.0
    """Adapters are scaled by alpha / rank."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """Dropout in front of the adapters."""
    targets: tuple[str, ...] = ()
    """Names of the linear layers that get an adapter, such as ["q_proj", "v_proj"]; empty means all but the output."""
    base_precision: Literal["float32", "bfloat16", "nf4"] = "float32"
    """Number format in which the frozen base is held while its adapters learn; nf4 is QLoRA's. The merge is always into
    the base as it was given."""
    packing: bool = False
    """Fill each sequence with whole conversations up to max_length; none of them sees another."""
    loss_on: Literal["answers", "all"] = "answers"
    """Which tokens carry loss: the assistant's turns with their end, or everything."""
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 10
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 8
    learning_rate: Annotated[float, Meta(gt=0, le=100)] = 3e-3

    def load(self) -> Load:
        """The adapter alone is trained."""
        return Load(
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            sequence_length=self.max_length,
            adapter_rank=self.rank,
            targets=self.targets,
            base_bits=_BITS[self.base_precision],
            dropout=self.dropout > 0,
            half_precision=self.half_precision,
            gradient_checkpointing=self.gradient_checkpointing,
            may_checkpoint=True,
            may_quantise=True,
            packed=self.packing,
            keeps_best=self.evaluate_every > 0,
        )

    def steps_for(self, rows: int) -> int | None:
        """Every conversation once an epoch."""
        return None if self.packing else self.steps_in(self.epochs, rows)
