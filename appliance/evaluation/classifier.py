"""Labels of texts by a Hugging Face sequence classifier in float32, batched by length, padding masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from appliance.evaluation.decoding import batches, finite
from appliance.weights.classifier_loading import load_classifier

_BATCH = 32


class Classifier:
    """A model folder in memory."""

    def __init__(self, folder: Path) -> None:
        """Load strictly. Raises IntegrityFailure ("model.unreadable")."""
        self._loaded = load_classifier(folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label it can give."""
        return self._loaded.labels

    def classify(self, texts: Sequence[str]) -> Iterator[dict[int, str]]:
        """Yield, batch by batch, the most likely label by the text's index. Longer texts are cut off."""
        encoded = [
            self._loaded.tokenizer(text, truncation=True, max_length=self._loaded.context_length)["input_ids"]
            for text in texts
        ]
        for batch in batches([len(ids) for ids in encoded], limit=_BATCH):
            picked = self._logits([encoded[index] for index in batch]).argmax(-1).tolist()
            yield {index: self.labels[label] for index, label in zip(batch, picked, strict=True)}

    @torch.inference_mode()
    def _logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        width = max(len(row) for row in rows)
        padding = self._loaded.tokenizer.pad_token_id or 0
        ids = torch.full((len(rows), width), padding, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor([*row], dtype=torch.long)
            mask[place, : len(row)] = 1
        given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        return finite(self._loaded.model(**given).logits)
