"""How good a model is before and after it was made smaller, by the measure that its kind allows.

a classifier      accuracy and macro-F1 on the held-out rows
a plain encoder   mean cosine between each text's vector and that of the whole model
one that writes   perplexity of the held-out answers or texts
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from appliance.kernel.errors import BadInput
from appliance.training.base_model import load_base
from appliance.training.chat import encode_chats
from appliance.training.chat import encode_texts as encode_documents
from appliance.training.encoders.labelled import LabelledData, read_classification
from appliance.training.encoders.report import measure
from appliance.training.encoders.vectors import scores_of
from appliance.training.loop import Supervision
from appliance.training.objective import NextToken, mean_loss
from appliance.training.rows import read_rows
from appliance.training.sampler import Example, in_batches
from appliance.weights.encoder import (
    LoadedEncoder,
    encode_texts,
    load_classifier,
    load_encoder,
    padded,
    unit_mean,
)
from appliance.weights.families import ENCODERS, family_of_folder
from appliance.weights.head import HeadConfig, has_head

_ROWS: Final = 512
"""Held-out rows that a plain encoder or a writing model is measured on at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A loaded model, its calibration rows as tokens, and how it is measured."""

    model: Any
    rows: tuple[Sequence[int], ...]
    figures: dict[str, float]
    vectors: Any = None


def load_subject(
    folder: Path,
    data: Path,
    *,
    supervision: Supervision,
    rows: int,
    max_length: int,
    batch_size: int,
    whole: Subject | None = None,
) -> Subject:
    """Load a model's folder and measure it on a data set. `whole` is the model it was made from, if any.

    Raises BadInput, IntegrityFailure, and Stopped.
    """
    if family_of_folder(folder) not in ENCODERS:
        return _writer(folder, data, rows=rows, max_length=max_length, batch_size=batch_size)
    if has_head(folder):
        classifier, loaded, config = load_classifier(folder)
        labelled = with_labels(read_classification(data), config)
        length = min(max_length, config.max_length)
        encoded = encode_texts(loaded.tokenizer, [row.text for row in labelled.heldout], max_length=length)
        scores = scores_of(
            classifier,
            encoded,
            padding=loaded.padding,
            supervision=supervision,
            phase="measure",
            share=(0.5, 0.5),
        )
        measured = measure(scores, labelled, seed=0)
        return Subject(
            model=loaded.model,
            rows=_first(loaded, [row.text for row in labelled.training], rows, length),
            figures={"accuracy": measured.accuracy, "macro_f1": measured.macro_f1},
        )
    loaded = load_encoder(folder)
    length = min(max_length, loaded.longest)
    vectors = _vectors(loaded, encode_texts(loaded.tokenizer, texts_of(data, "heldout")[:_ROWS], max_length=length))
    likeness = float((vectors * vectors if whole is None else vectors * whole.vectors).sum(1).mean())
    return Subject(
        model=loaded.model,
        rows=_first(loaded, texts_of(data, "train"), rows, length),
        figures={"cosine_to_whole": likeness},
        vectors=vectors,
    )


def with_labels(data: LabelledData, config: HeadConfig) -> LabelledData:
    """Return a data set with the labels, in their order, that a model already has."""
    return LabelledData(training=data.training, heldout=data.heldout, labels=config.labels)


def texts_of(data: Path, part: str) -> list[str]:
    """Return the text of each row of one part, whatever the form: of a conversation what the user asked last.

    Raises BadInput `training.dataset_empty`.
    """
    found = [
        row.text or next((turn.content for turn in reversed(row.messages) if turn.role == "user"), "")
        for row in read_rows(data / f"{part}.jsonl")
    ]
    filled = [text for text in found if text.strip()]
    if not filled:
        raise BadInput(
            "training.dataset_empty",
            f"The {part} part of the data set has no text to measure on.",
            hint="Use a data set with training and held-out rows.",
        )
    return filled


def writing_examples(tokenizer: Any, file: Path, *, max_length: int) -> tuple[Example, ...]:
    """Return rows as a writing model learns them: answers of conversations, or texts in pieces."""
    rows = read_rows(file)
    if any(row.messages for row in rows):
        return encode_chats(tokenizer, rows, max_length=max_length).examples
    return encode_documents(tokenizer, [row.text for row in rows if row.text], max_length=max_length).examples


def perplexity(model: Any, examples: Sequence[Example], *, batch_size: int, padding: int) -> float:
    """Return exp of the mean cross entropy of the target tokens."""
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    batches = in_batches(ordered, batch_size=batch_size, padding=padding)
    return math.exp(min(700.0, mean_loss(model, batches, NextToken())))


def _writer(folder: Path, data: Path, *, rows: int, max_length: int, batch_size: int) -> Subject:
    loaded = load_base(folder)
    training = writing_examples(loaded.tokenizer, data / "train.jsonl", max_length=max_length)
    heldout = writing_examples(loaded.tokenizer, data / "heldout.jsonl", max_length=max_length)[:_ROWS]
    if not training or not heldout:
        raise BadInput(
            "training.dataset_empty",
            f"The data set has no training or no held-out rows of at most {max_length} tokens.",
            hint="Use a data set with both parts, or a larger max_length.",
        )
    return Subject(
        model=loaded.model,
        rows=tuple(example.tokens for example in training[:rows]),
        figures={"perplexity": perplexity(loaded.model, heldout, batch_size=batch_size, padding=loaded.padding)},
    )


def _first(loaded: LoadedEncoder, texts: Sequence[str], rows: int, length: int) -> tuple[array[int], ...]:
    return tuple(encode_texts(loaded.tokenizer, list(texts[:rows]), max_length=length))


def _vectors(loaded: LoadedEncoder, encoded: Sequence[Sequence[int]]) -> Any:
    with torch.inference_mode():
        return np.concatenate([unit_mean(loaded.model, *padded([row], padding=0)).numpy() for row in encoded])
