"""Loads a Hugging Face sequence classifier strictly: float32, from this disk alone, no code of the folder is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from appliance.weights.loading import unreadable

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)
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
    transformers_logging.disable_progress_bar()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise unreadable(f"{type(error).__name__}: {str(error)[:200]}") from error
    for problem in ("missing_keys", "mismatched_keys"):
        if loading[problem]:
            raise unreadable(f"{problem.replace('_', ' ')}: {sorted(map(str, loading[problem]))[:3]}")
    named = int(tokenizer.model_max_length)
    positions = int(getattr(model.config, "max_position_embeddings", _UNBOUNDED))
    return LoadedClassifier(
        model=model.eval(),
        tokenizer=tokenizer,
        labels=tuple(str(model.config.id2label[number]) for number in range(model.config.num_labels)),
        context_length=min(positions, named if named < _UNBOUNDED else positions),
    )
