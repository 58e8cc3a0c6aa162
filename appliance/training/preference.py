"""Direct preference optimisation (Rafailov et al. 2023): the loss of pairs of answers, and the cached reference.

The reference is the model before its first step. Its log-probabilities are computed once and sealed beside the
checkpoints, so that no second model is held in memory and every attempt sees the same figures.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from appliance.training.chat import Preference
from appliance.training.checkpoint import Checkpoint, CheckpointStore
from appliance.training.objective import predictions
from appliance.training.sampler import IGNORED, Batch, pad
from appliance.weights.token_ids import once_each, rows_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Log-probabilities (nats) of both answers of one pair under the model before training."""

    chosen: float
    rejected: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Referenced:
    """A pair and what the reference thinks of it."""

    pair: Preference
    reference: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBatch:
    """The chosen answers, then the rejected ones, as rows of one batch; `reference` is 2 x pairs."""

    rows: Batch
    reference: Tensor

    @property
    def tokens(self) -> Tensor:
        """The token ids of all rows."""
        return self.rows.tokens


class DirectPreference:
    """-log sigmoid(beta * margin), summed over pairs; `label_smoothing` is the part taken as the wrong way round."""

    def __init__(self, *, beta: float, label_smoothing: float) -> None:
        self._beta = beta
        self._smoothing = label_smoothing

    def summed(self, model: nn.Module, batch: PairBatch) -> Tensor:
        """Return the sum over the batch's pairs."""
        margin = self._beta * margins(model, batch)
        right = nn.functional.logsigmoid(margin) * (1 - self._smoothing)
        wrong = nn.functional.logsigmoid(-margin) * self._smoothing
        return -(right + wrong).sum()

    def count(self, batch: PairBatch) -> int:
        """Every pair."""
        return batch.reference.shape[1]

    def tokens(self, batch: PairBatch) -> int:
        """Every position of both answers."""
        return batch.tokens.numel()


def margins(model: nn.Module, batch: PairBatch) -> Tensor:
    """Return by how many nats more than the reference the model prefers the chosen answer, pair by pair."""
    chosen, rejected = log_probabilities(model, batch.rows).chunk(2)
    return (chosen - rejected) - (batch.reference[0] - batch.reference[1])


def log_probabilities(model: nn.Module, batch: Batch) -> Tensor:
    """Return the summed log-probability (nats) of each row's target tokens."""
    logits, targets = predictions(model, batch)
    each = nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
    return -each.sum(dim=1)


def collate(chosen: Sequence[Referenced], *, padding: int) -> PairBatch:
    """Return pairs as one batch."""
    rows = [*(row.pair.chosen for row in chosen), *(row.pair.rejected for row in chosen)]
    reference = torch.tensor([[row.reference.chosen for row in chosen], [row.reference.rejected for row in chosen]])
    return PairBatch(rows=pad(rows, padding=padding), reference=reference)


def referenced(
    model: nn.Module,
    pairs: Sequence[Preference],
    *,
    batch_size: int,
    padding: int,
    directory: Path,
    fingerprint: str,
    on_batch: Callable[[float], None],
) -> list[Referenced]:
    """Return the pairs with the reference's figures: sealed ones, else computed with the model as it is now.

    They are sealed below `directory` for whoever has the same `fingerprint` and the same pairs; the pairs' order and
    their division into parts change nothing.
    """
    firsts, places = once_each([(pair.length, *(ids.tobytes() for ids in _ids_of(pair))) for pair in pairs])
    unique = [pairs[at] for at in firsts]
    content = rows_digest(ids for pair in unique for ids in _ids_of(pair))
    store = CheckpointStore(directory / "reference", fingerprint=f"{fingerprint}/{batch_size}/{content}")
    sealed, _skipped = store.newest()
    if sealed is None:
        figures = _compute(model, unique, batch_size=batch_size, padding=padding, on_batch=on_batch)
        store.save(Checkpoint(step=0, tensors={"reference": figures}, state={}))
    else:
        figures = sealed.tensors["reference"]
    return [
        Referenced(pair=pair, reference=Reference(chosen=float(both[0]), rejected=float(both[1])))
        for pair, both in zip(pairs, figures[places], strict=True)
    ]


def _ids_of(pair: Preference) -> tuple[array[int], ...]:
    return pair.chosen.tokens, pair.chosen.labels, pair.rejected.tokens, pair.rejected.labels


def accuracy(model: nn.Module, batches: Sequence[PairBatch]) -> float:
    """Return in which part of the pairs the model prefers the chosen answer more than the reference did."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        right = sum(int((margins(model, batch) > 0).sum()) for batch in batches)
    model.train(was_training)
    return right / max(1, sum(batch.reference.shape[1] for batch in batches))


def _compute(
    model: nn.Module, pairs: Sequence[Preference], *, batch_size: int, padding: int, on_batch: Callable[[float], None]
) -> Tensor:
    model.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(pairs), batch_size):
            part = pairs[start : start + batch_size]
            rows = pad([*(pair.chosen for pair in part), *(pair.rejected for pair in part)], padding=padding)
            found.append(torch.stack(log_probabilities(model, rows).chunk(2), dim=1))
            on_batch(min(1.0, (start + batch_size) / len(pairs)))
    return torch.cat(found).clone()
