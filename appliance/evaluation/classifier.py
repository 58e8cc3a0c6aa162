<<<<<<< HEAD
"""Labels of texts by a classifier's folder in float32, batched by length, padding masked.

Two kinds of folder: transformers' own sequence classifier, and a plain encoder with the head that `train classify` puts
beside it. Both are asked as they are served.
=======
"""Labels of texts by a classifier in float32, batched by length, padding masked.

Two kinds of folder hold one: an encoder with a head of this appliance's beside it (`weights.head`), and a sequence
classifier as transformers saves it.
>>>>>>> 4bfbf67672d723a086f5d6bcd5827ce1a06e7c98
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from appliance.evaluation.decoding import batches, finite
from appliance.weights import encoder
from appliance.weights.classifier_loading import load_classifier
<<<<<<< HEAD
=======
from appliance.weights.encoder import encode_texts, padded
from appliance.weights.encoder import load_classifier as load_headed
>>>>>>> 4bfbf67672d723a086f5d6bcd5827ce1a06e7c98
from appliance.weights.head import has_head

_BATCH = 32
Tokenise = Callable[[Sequence[str]], Sequence[Sequence[int]]]


class _Scores(Protocol):
    """A loaded classifier: its labels, a text's tokens cut to what it takes, and the scores of some texts."""

    labels: tuple[str, ...]

    def tokens(self, texts: Sequence[str]) -> list[Sequence[int]]: ...

    def logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor: ...


class Classifier:
    """A model folder in memory: its labels, in the order of its scores."""

    def __init__(self, folder: Path) -> None:
        """Load strictly. Raises IntegrityFailure ("model.unreadable", "model.head_invalid")."""
<<<<<<< HEAD
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
=======
        if has_head(folder):
            model, loaded, config = load_headed(folder)
            self.labels = config.labels
            self._padding = loaded.padding
            self._tokenise: Tokenise = lambda texts: encode_texts(loaded.tokenizer, texts, max_length=config.max_length)
            self._scores: Callable[[torch.Tensor, torch.Tensor], Any] = model
            return
        plain = load_classifier(folder)
        self.labels = plain.labels
        self._padding = plain.tokenizer.pad_token_id or 0
        self._tokenise = lambda texts: [
            plain.tokenizer(text, truncation=True, max_length=plain.context_length)["input_ids"] for text in texts
        ]
        self._scores = lambda ids, mask: plain.model(input_ids=ids, attention_mask=mask).logits

    def classify(self, texts: Sequence[str]) -> Iterator[dict[int, str]]:
        """Yield, batch by batch, the most likely label by the text's index. Longer texts are cut off."""
        encoded = self._tokenise(texts)
        for batch in batches([len(ids) for ids in encoded], limit=_BATCH):
            ids, mask = padded([encoded[index] for index in batch], padding=self._padding)
            with torch.inference_mode():
                picked = finite(self._scores(ids, mask)).argmax(-1).tolist()
            yield {index: self.labels[label] for index, label in zip(batch, picked, strict=True)}


def is_classifier(folder: Path, architectures: Sequence[str]) -> bool:
    """Tell whether a folder holds one, from its files and what its config.json names."""
    return has_head(folder) or any(name.endswith("ForSequenceClassification") for name in architectures)
>>>>>>> 4bfbf67672d723a086f5d6bcd5827ce1a06e7c98
