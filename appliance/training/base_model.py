"""A base model as training takes it up: float32 in memory of our own, its tokenizer, and the template of the recipe.

Knows no recipe kinds. Invariant: the tokenizer that is handed on writes conversations as they were written in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from appliance.kernel.errors import BadInput
from appliance.training import export
from appliance.training.nf4 import hold_in_nf4
from appliance.weights.loading import load_model, stored_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A model in training form. `padding` is the token that fills batches; it never carries loss."""

    model: Any
    tokenizer: Any
    folder: Path
    chat_template: str

    @property
    def padding(self) -> int:
        """The padding token; a tokenizer without one has its end token or its first."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0

    def write_tokenizer(self, output: Path) -> None:
        """Hand the tokenizer on byte by byte, with the recipe's template in place of its own where there is one."""
        export.copy_tokenizer(self.folder, output)
        if self.chat_template:
            export.write_template(output, self.chat_template)


def load_base(
    folder: Path,
    *,
    chat_template: str = "",
    gradient_checkpointing: bool = False,
    held_in: Literal["float32", "bfloat16", "nf4"] = "float32",
) -> Base:
    """Load a Hugging Face folder for training. Raises IntegrityFailure (`model.unreadable`) or BadInput.

    `held_in` is the number format of the weights; in fewer bits they can no longer learn themselves.
    """
    # Mapped from the file in its own format: what is held in fewer bits is never there in full.
    loaded = load_model(folder, dtype=torch.float32 if held_in == "float32" else stored_dtype(folder))
    if held_in == "nf4":
        hold_in_nf4(loaded.model)
    if held_in == "bfloat16":
        loaded.model.to(torch.bfloat16)
    for weight in loaded.model.parameters():
        # What is not held in fewer bits is float32 as ever.
        whole = weight.data.float() if held_in == "nf4" and weight.is_floating_point() else weight.data
        # Out of the mapped file into memory of our own alignment: it decides the last bit of every product.
        weight.data = whole.clone(memory_format=torch.contiguous_format)
    if chat_template:
        loaded.tokenizer.chat_template = chat_template
    if gradient_checkpointing:
        checkpoint_layers(loaded.model)
    return Base(model=loaded.model, tokenizer=loaded.tokenizer, folder=folder, chat_template=chat_template)


def checkpoint_layers(model: Any) -> None:
    """Keep only the input of each layer for the backward pass. Raises BadInput where the architecture cannot."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise BadInput(
            "training.no_gradient_checkpointing",
            f"{type(model).__name__} cannot compute its layers twice.",
            hint="Leave gradient_checkpointing out, and use a smaller batch_size with more accumulation.",
        )
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
