"""Labels of texts by a classifier's folder in float32, batched by length, padding masked.

Two kinds of folder: transformers' own sequence classifier, and a plain encoder with the head that `train classify` puts
beside it. Both are asked as they are served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from appliance.evaluation.decoding import batches, finite
from appliance.weights import encoder
from appliance.weights.classifier_loading import load_classifier
from appliance.weights.head import has_head

_BATCH = 32


class _Scores(Protocol):
    """A loaded classifier: its labels, a text's tokens cut to what it takes, and the scores of some texts."""

    labels: tuple[str, ...]

    def tokens(self, texts: Sequence[str]) -> list[Sequence[int]]: ...

    def logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor: ...


class Classifier:
    """A model folder in memory."""

    def __init__(self, folder: Path) -> None:
        """Load strictly. Raises IntegrityFailure ("model.unreadable", "model.head_invalid")."""
        self._scores: _Scores = _OwnHead(folder) if has_head(folder) else _Stock(folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label it can give."""
        return self._scores.labels

    def classify(self, texts: Sequence[str]) -> Iterator[dict[int, str]]:
        """Yield, batch by batch, the most likely label by the text's index. Longer texts are cut off."""
        encoded = self._scores.tokens(texts)
        for batch in batches([len(ids) for ids in encoded], limit=_BATCH):
            with torch.inference_mode():
                scores = finite(self._scores.logits([encoded[index] for index in batch]))
            yield {index: self.labels[label] for index, label in zip(batch, scores.argmax(-1).tolist(), strict=True)}


class _OwnHead:
    """An encoder with a head beside it."""

    def __init__(self, folder: Path) -> None:
        self._model, self._loaded, config = encoder.load_classifier(folder)
        self._length = config.max_length
        self.labels = config.labels

    def tokens(self, texts: Sequence[str]) -> list[Sequence[int]]:
        return [*encoder.encode_texts(self._loaded.tokenizer, texts, max_length=self._length)]

    def logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        scores: torch.Tensor = self._model(*encoder.padded(rows, padding=self._loaded.padding))
        return scores


class _Stock:
    """A sequence classifier of transformers' own."""

    def __init__(self, folder: Path) -> None:
        self._loaded = load_classifier(folder)
        self.labels = self._loaded.labels

    def tokens(self, texts: Sequence[str]) -> list[Sequence[int]]:
        length = self._loaded.context_length
        return [self._loaded.tokenizer(text, truncation=True, max_length=length)["input_ids"] for text in texts]

    def logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        tokens, mask = encoder.padded(rows, padding=self._loaded.tokenizer.pad_token_id or 0)
        given: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask}
        scores: torch.Tensor = self._loaded.model(**given).logits
        return scores
