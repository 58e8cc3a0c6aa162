"""Which rows make up which step: a pure function of (seed, step), so resumption jumps instead of replaying.

Text of a seed model is packed: the documents of an epoch in shuffled order, one stream, cut into equal sequences.
Conversations are padded on the right, where causal attention never looks, so no attention mask is needed; packed ones
carry the number of their segment at every position instead.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from appliance.training.runtime import derive_seed
from appliance.weights.token_ids import int32, tensor

IGNORED = -100
"""Label of a position that carries no loss."""

E = TypeVar("E")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """`tokens`, `labels` and `segments`: int64, batch x time. Labels are not shifted; `IGNORED` carries no loss.

    `segments` numbers the conversations of a packed sequence, -1 where there is padding; None where nothing is packed.
    """

    tokens: Tensor
    labels: Tensor
    segments: Tensor | None = None

    @property
    def targets(self) -> int:
        """How many positions carry loss once labels are shifted by one."""
        return int((self.labels[:, 1:] != IGNORED).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sequence: token ids and, position by position, the label. `lengths` are those of what is packed in it."""

    tokens: array[int]
    labels: array[int]
    lengths: tuple[int, ...] = ()


def permutation(count: int, seed: int, epoch: int) -> list[int]:
    """Return the order of an epoch."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


class TextSampler:
    """Packed sequences of `length` tokens from documents that each end with the end token."""

    def __init__(
        self, documents: Sequence[array[int]], *, seed: int, length: int, batch_size: int, accumulation: int
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
            tokens = torch.stack([self._sequence(index) for index in range(start, start + self._batch_size)]).long()
            result.append(Batch(tokens=tokens, labels=tokens))
        return result

    def _sequence(self, index: int) -> Tensor:
        epoch, row = divmod(index, self._per_epoch)
        if epoch not in self._epochs:
            order = permutation(len(self._documents), self._seed, epoch)
            stream = int32(token for document in order for token in self._documents[document])
            packed = tensor(stream)[: self._per_epoch * self._length].view(self._per_epoch, self._length)
            # A step may straddle two epochs; older ones are never asked for again.
            self._epochs = {key: value for key, value in self._epochs.items() if key == epoch - 1} | {epoch: packed}
        return self._epochs[epoch][row]


class BucketSampler(Generic[E, B]):
    """Rows of similar length together: sorted within a window of steps, then steps are shuffled."""

    _WINDOW = 8

    def __init__(
        self,
        rows: Sequence[E],
        *,
        length: Callable[[E], int],
        collate: Callable[[Sequence[E]], B],
        seed: int,
        batch_size: int,
        accumulation: int,
    ) -> None:
        self._given = rows
        self._length = length
        self._collate = collate
        self._seed = seed
        self._batch_size = batch_size
        self._rows = batch_size * accumulation
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show every row once."""
        return -(-len(self._given) // self._rows)

    def batches(self, step: int) -> list[B]:
        """Return the batches whose gradients make up one step; the last step of an epoch may be smaller."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._arrange(epoch))
        rows = self._epoch[1][position]
        return [
            self._collate([self._given[row] for row in rows[start : start + self._batch_size]])
            for start in range(0, len(rows), self._batch_size)
        ]

    def _arrange(self, epoch: int) -> list[list[int]]:
        order = permutation(len(self._given), self._seed, epoch)
        window = self._rows * self._WINDOW
        arranged: list[int] = []
        for start in range(0, len(order), window):
            arranged += sorted(order[start : start + window], key=lambda row: self._length(self._given[row]))
        steps = [arranged[start : start + self._rows] for start in range(0, len(arranged), self._rows)]
        return [steps[index] for index in permutation(len(steps), derive_seed(self._seed, "steps"), epoch)]


class ChatSampler(BucketSampler[Example, Batch]):
    """Conversations of similar length together, padded on the right."""

    def __init__(
        self, examples: Sequence[Example], *, seed: int, batch_size: int, accumulation: int, padding: int
    ) -> None:
        super().__init__(
            examples,
            length=lambda example: len(example.tokens),
            collate=lambda chosen: pad(chosen, padding=padding),
            seed=seed,
            batch_size=batch_size,
            accumulation=accumulation,
        )


def pad(examples: Sequence[Example], *, padding: int) -> Batch:
    """Return sequences of different lengths as one batch, filled up on the right."""
    width = max(len(example.tokens) for example in examples)
    tokens = torch.full((len(examples), width), padding, dtype=torch.int64)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.int64)
    for row, example in enumerate(examples):
        tokens[row, : len(example.tokens)] = tensor(example.tokens)
        labels[row, : len(example.labels)] = tensor(example.labels)
    return Batch(tokens=tokens, labels=labels, segments=_segments(examples, width))


def in_batches(examples: Sequence[Example], *, batch_size: int, padding: int) -> list[Batch]:
    """Return examples in their order as padded batches."""
    return [pad(examples[start : start + batch_size], padding=padding) for start in range(0, len(examples), batch_size)]


def _segments(examples: Sequence[Example], width: int) -> Tensor | None:
    if not any(len(example.lengths) > 1 for example in examples):
        return None
    segments = torch.full((len(examples), width), -1, dtype=torch.int64)
    for row, example in enumerate(examples):
        begin = 0
        for number, length in enumerate(example.lengths or (len(example.tokens),)):
            segments[row, begin : begin + length] = number
            begin += length
    return segments
