"""The rows of a run as sequences of tokens: read, encoded, packed where the recipe says so, and counted.

Knows recipes and tokenizers, no model. What is held out or set aside is never packed, so its loss is comparable between
recipes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.kernel.errors import BadInput
from appliance.kernel.events import Event, Note
from appliance.training.chat import Encoded, LossOn, encode_chats, encode_completions, encode_texts
from appliance.training.packing import pack
from appliance.training.recipes.base import OnBase
from appliance.training.recipes.full import FullRecipe
from appliance.training.recipes.load import Load
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.recipes.pretrain import PretrainRecipe
from appliance.training.rows import Row, read_rows, rows_size
from appliance.training.sampler import Example
from appliance.training.set_aside import divided


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversations:
    """What is learnt from, what is set aside to choose by, and what is held out.

    `examples` counts what was learnt from before packing.
    """

    training: tuple[Example, ...]
    validation: tuple[Example, ...]
    heldout: tuple[Example, ...]
    examples: int
    too_long: int
    size: int
    """bytes of the files that they were read from"""

    def load_of(self, recipe: OnBase) -> Load:
        """Return the recipe's load at the longest sequence that there really is."""
        longest = max(len(example.tokens) for example in (*self.training, *self.validation, *self.heldout))
        packed = any(len(example.lengths) > 1 for example in self.training)
        return replace(recipe.load(), sequence_length=longest, packed=packed, data=self.size)

    def figures(self) -> dict[str, Any]:
        """Return the counts for the summary."""
        tokens = sum(len(example.tokens) for example in self.training)
        return {
            "examples": self.examples,
            **({"validation_examples": len(self.validation)} if self.validation else {}),
            "too_long": self.too_long,
            "sequences": len(self.training),
            "tokens_per_epoch": tokens,
        }


def read_conversations(
    tokenizer: Any, folder: Path, recipe: LoraRecipe | FullRecipe, *, seed: int, emit: Callable[[Event], None]
) -> Conversations:
    """Read and encode a data set of the form chat or completion. Raises BadInput (`training.dataset_empty`)."""

    def read(part: str) -> Encoded:
        rows = read_rows(folder / f"{part}.jsonl")
        encode = encode_completions if any(row.completion for row in rows) else encode_chats
        return encode(tokenizer, rows, max_length=recipe.max_length, loss_on=LossOn(recipe.loss_on))

    encoded = read("train")
    if not encoded.examples:
        raise BadInput(
            "training.dataset_empty",
            f"The data set has no row of at most {recipe.max_length} tokens to learn from.",
            hint="Use a data set of the form chat or completion, or a larger max_length.",
        )
    if encoded.too_long:
        emit(Note(text=f"{encoded.too_long} rows exceed max_length and are left out."))
    length = recipe.max_length if recipe.packing else 0
    return _conversations(encoded, read("heldout"), folder, recipe, length=length, seed=seed)


def read_texts(tokenizer: Any, folder: Path, recipe: PretrainRecipe, *, seed: int) -> Conversations:
    """Read and encode a corpus of the form text, packed. Raises BadInput (`training.corpus_empty`)."""
    length = recipe.sequence_length
    encoded = encode_texts(tokenizer, _texts(read_rows(folder / "train.jsonl")), max_length=length)
    if not encoded.examples:
        raise BadInput(
            "training.corpus_empty",
            "The corpus has no rows to train on.",
            hint='Import a JSONL file whose rows are {"text": ...} and use it as the corpus.',
        )
    heldout = encode_texts(tokenizer, _texts(read_rows(folder / "heldout.jsonl")), max_length=length)
    return _conversations(encoded, heldout, folder, recipe, length=length, seed=seed)


def _texts(rows: list[Row]) -> list[str]:
    return [row.text for row in rows if row.text.strip()]


def _conversations(
    encoded: Encoded, heldout: Encoded, folder: Path, recipe: OnBase, *, length: int, seed: int
) -> Conversations:
    learned, aside = divided(encoded.examples, recipe, seed=seed)
    return Conversations(
        training=pack(learned, length=length, seed=seed) if length else tuple(learned),
        validation=tuple(aside),
        heldout=heldout.examples,
        examples=len(learned),
        too_long=encoded.too_long,
        size=rows_size(folder),
    )
