"""Which rows make up which step: a pure function of (seed, step), so resumption jumps instead of replaying.

Text is packed: the documents of an epoch in shuffled order, one stream, cut into equal sequences. Chats are
padded on the right, where causal attention never looks, so no attention mask is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from appliance.training.runtime import derive_seed

IGNORED = -100
"""Label of a position that carries no loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """`tokens` and `labels`: int64, batch x time. Labels are not shifted; `IGNORED` carries no loss."""

    tokens: Tensor
    labels: Tensor

    @property
    def targets(self) -> int:
        """How many positions carry loss once labels are shifted by one."""
        return int((self.labels[:, 1:] != IGNORED).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One encoded conversation: token ids and, position by position, the label."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]


def permutation(count: int, seed: int, epoch: int) -> list[int]:
    """Return the order of an epoch."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


class TextSampler:
    """Packed sequences of `length` tokens from documents that each end with the end token."""

    def __init__(
        self, documents: Sequence[Sequence[int]], *, seed: int, length: int, batch_size: int, accumulation: int
    ) -> None:
        total = sum(len(document) for document in documents)
        self._documents = documents
        self._seed = seed
        self._length = min(length, total)
        self._per_epoch = total // self._length
        self._batch_size = batch_size
        self._accumulation = accumulation
        self._epochs: dict[int, Tensor] = {}

    def batches(self, step: int) -> list[Batch]:
        """Return the batches whose gradients make up one step."""
        first = step * self._batch_size * self._accumulation
        result = []
        for start in range(first, first + self._batch_size * self._accumulation, self._batch_size):
            tokens = torch.stack([self._sequence(index) for index in range(start, start + self._batch_size)])
            result.append(Batch(tokens=tokens, labels=tokens))
        return result

    def _sequence(self, index: int) -> Tensor:
        epoch, row = divmod(index, self._per_epoch)
        if epoch not in self._epochs:
            order = permutation(len(self._documents), self._seed, epoch)
            stream = [token for document in order for token in self._documents[document]]
            packed = torch.tensor(stream[: self._per_epoch * self._length]).view(self._per_epoch, self._length)
            # A step may straddle two epochs; older ones are never asked for again.
            self._epochs = {key: value for key, value in self._epochs.items() if key == epoch - 1} | {epoch: packed}
        return self._epochs[epoch][row]


class ChatSampler:
    """Conversations of similar length together: sorted within a window of steps, then steps are shuffled."""

    _WINDOW = 8

    def __init__(
        self, examples: Sequence[Example], *, seed: int, batch_size: int, accumulation: int, padding: int
    ) -> None:
        self._examples = examples
        self._seed = seed
        self._batch_size = batch_size
        self._rows = batch_size * accumulation
        self._padding = padding
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show every conversation once."""
        return -(-len(self._examples) // self._rows)

    def batches(self, step: int) -> list[Batch]:
        """Return the batches whose gradients make up one step; the last step of an epoch may be smaller."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._arrange(epoch))
        rows = self._epoch[1][position]
        return [self._pad(rows[start : start + self._batch_size]) for start in range(0, len(rows), self._batch_size)]

    def _arrange(self, epoch: int) -> list[list[int]]:
        order = permutation(len(self._examples), self._seed, epoch)
        window = self._rows * self._WINDOW
        arranged: list[int] = []
        for start in range(0, len(order), window):
            arranged += sorted(order[start : start + window], key=lambda row: len(self._examples[row].tokens))
        steps = [arranged[start : start + self._rows] for start in range(0, len(arranged), self._rows)]
        return [steps[index] for index in permutation(len(steps), derive_seed(self._seed, "steps"), epoch)]

    def _pad(self, rows: Sequence[int]) -> Batch:
        return pad([self._examples[row] for row in rows], padding=self._padding)


def pad(examples: Sequence[Example], *, padding: int) -> Batch:
    """Return conversations of different lengths as one batch, filled up on the right."""
    width = max(len(example.tokens) for example in examples)
    tokens = torch.full((len(examples), width), padding, dtype=torch.int64)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.int64)
    for row, example in enumerate(examples):
        tokens[row, : len(example.tokens)] = torch.tensor(example.tokens)
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
    return Batch(tokens=tokens, labels=labels)
