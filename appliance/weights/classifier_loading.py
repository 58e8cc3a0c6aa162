"""Loads a Hugging Face sequence classifier strictly: float32, from this disk alone, no code of the folder is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification

from appliance.weights.loading import from_folder

_UNBOUNDED = 1 << 20
"""`model_max_length` of a tokenizer that knows no limit is a number beyond any context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedClassifier:
    """A classifier in evaluation mode, its tokenizer, and its labels in the order of its outputs."""

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    context_length: int


def load_classifier(folder: Path) -> LoadedClassifier:
    """Load tokenizer and weights. Raises IntegrityFailure (`model.unreadable`)."""
    model, tokenizer = from_folder(AutoModelForSequenceClassification, folder, leftovers=True)
    named = int(tokenizer.model_max_length)
    positions = int(getattr(model.config, "max_position_embeddings", _UNBOUNDED))
    return LoadedClassifier(
        model=model,
        tokenizer=tokenizer,
        labels=tuple(str(model.config.id2label[number]) for number in range(model.config.num_labels)),
        context_length=min(positions, named if named < _UNBOUNDED else positions),
    )
