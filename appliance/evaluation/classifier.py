"""Labels of texts by a classifier in float32, batched by length, padding masked.

Two kinds of folder hold one: an encoder with a head of this appliance's beside it (`weights.head`), and a sequence
classifier as transformers saves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from appliance.evaluation.decoding import batches, finite
from appliance.weights.classifier_loading import load_classifier
from appliance.weights.encoder import encode_texts, padded
from appliance.weights.encoder import load_classifier as load_headed
from appliance.weights.head import has_head

_BATCH = 32
Tokenise = Callable[[Sequence[str]], Sequence[Sequence[int]]]


class Classifier:
    """A model folder in memory: its labels, in the order of its scores."""

    def __init__(self, folder: Path) -> None:
        """Load strictly. Raises IntegrityFailure ("model.unreadable", "model.head_invalid")."""
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
