"""Batches of texts for an encoder: texts of similar length together, in an order that seed and step alone decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from appliance.training.runtime import derive_seed
from appliance.training.sampler import IGNORED, permutation
from appliance.weights.encoder import padded

_WINDOW = 8
"""Steps whose texts are sorted by length among themselves."""

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


class RowSampler(Generic[B]):
    """Rows of similar length together: sorted within a window of steps, then the steps are shuffled.

    `build` turns the numbers of some rows into a batch.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        build: Callable[[Sequence[int]], B],
        *,
        seed: int,
        batch_size: int,
        accumulation: int,
    ) -> None:
        self._lengths = lengths
        self._build = build
        self._seed = seed
        self._batch_size = batch_size
        self._rows = batch_size * accumulation
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show every row once."""
        return -(-len(self._lengths) // self._rows)

    def batches(self, step: int) -> list[B]:
        """Return the batches whose gradients make up one step; one step of an epoch may be smaller."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._arrange(epoch))
        rows = self._epoch[1][position]
        return [self._build(rows[start : start + self._batch_size]) for start in range(0, len(rows), self._batch_size)]

    def _arrange(self, epoch: int) -> list[list[int]]:
        order = permutation(len(self._lengths), self._seed, epoch)
        window = self._rows * _WINDOW
        arranged: list[int] = []
        for start in range(0, len(order), window):
            arranged += sorted(order[start : start + window], key=lambda row: self._lengths[row])
        steps = [arranged[start : start + self._rows] for start in range(0, len(arranged), self._rows)]
        return [steps[index] for index in permutation(len(steps), derive_seed(self._seed, "steps"), epoch)]


def labelled_batch(
    rows: Sequence[int], encoded: Sequence[Sequence[int]], numbers: Sequence[int], *, padding: int
) -> TextBatch:
    """Return some texts with the label of each."""
    tokens, mask = padded([encoded[row] for row in rows], padding=padding)
    return TextBatch(tokens=tokens, mask=mask, labels=torch.tensor([numbers[row] for row in rows]))
