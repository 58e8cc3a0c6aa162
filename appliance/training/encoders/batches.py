"""Batches of texts for an encoder: texts of similar length together, in an order that seed and step alone decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from appliance.training.sampler import IGNORED, BucketSampler
from appliance.weights.encoder import padded

B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBatch:
    """Texts and what is wanted of each: a label's number, for a tagger one for each token.

    `tokens`, `mask` and, for a tagger, `labels`: int64, texts x time; else `labels` has one number for each text.
    """

    tokens: Tensor
    mask: Tensor
    labels: Tensor

    @property
    def targets(self) -> int:
        """How many labels carry loss."""
        return int((self.labels != IGNORED).sum())


class RowSampler(BucketSampler[int, B]):
    """Rows by their numbers, those of similar length together. `build` turns the numbers of some rows into a batch."""

    def __init__(
        self,
        lengths: Sequence[int],
        build: Callable[[Sequence[int]], B],
        *,
        seed: int,
        batch_size: int,
        accumulation: int,
    ) -> None:
        super().__init__(
            range(len(lengths)),
            length=lengths.__getitem__,
            collate=build,
            seed=seed,
            batch_size=batch_size,
            accumulation=accumulation,
        )


def labelled_batch(
    rows: Sequence[int], encoded: Sequence[Sequence[int]], numbers: Sequence[int], *, padding: int
) -> TextBatch:
    """Return some texts with the label of each."""
    tokens, mask = padded([encoded[row] for row in rows], padding=padding)
    return TextBatch(tokens=tokens, mask=mask, labels=torch.tensor([numbers[row] for row in rows]))
