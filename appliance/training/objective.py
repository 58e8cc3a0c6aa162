"""What a causal model is trained for: the loss of a batch as a sum, and what it is a mean over.

A sum and a count instead of a mean, so that batches of one step can be put together without those with few target
tokens weighing more than others. Knows no optimiser and no data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from appliance.training.sampler import IGNORED, Batch

B = TypeVar("B")
B_contra = TypeVar("B_contra", contravariant=True)


class Objective(Protocol[B_contra]):
    """What the loop asks of a loss."""

    def summed(self, model: nn.Module, batch: B_contra) -> Tensor:
        """Return the loss of a batch, summed over what `count` counts."""
        ...

    def count(self, batch: B_contra) -> int:
        """Return over how many targets the loss of a step is the mean."""
        ...

    def tokens(self, batch: B_contra) -> int:
        """Return how many tokens the model reads in a batch, padding included."""
        ...


class NextToken:
    """Cross entropy of the next token, in nats, at every position whose label is not IGNORED."""

    def summed(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum over the batch's target tokens."""
        logits, targets = predictions(model, batch)
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def count(self, batch: Batch) -> int:
        """Every target token."""
        return batch.targets

    def tokens(self, batch: Batch) -> int:
        """Every position."""
        return batch.tokens.numel()


def predictions(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what the model predicts (batch x n x vocabulary, float32) and what it should (batch x n, or IGNORED).

    n counts the positions behind which any row has a target: prompts that all rows share cost no logits.
    """
    targets = batch.labels[:, 1:]
    wanted = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    return logits_of(model, batch, at=wanted).float(), targets[:, wanted]


def logits_of(model: nn.Module, batch: Batch, *, at: Tensor | None = None) -> Tensor:
    """Return batch x time x vocabulary, at some positions or at all.

    Packed conversations neither see nor count positions of each other.
    """
    packed = (
        {}
        if batch.segments is None
        else {"position_ids": positions_in(batch.segments), "attention_mask": block_mask(batch.segments)}
    )
    kept = 0 if at is None else at
    logits: Tensor = model(input_ids=batch.tokens, use_cache=False, logits_to_keep=kept, **packed).logits
    return logits


def block_mask(segments: Tensor) -> Tensor:
    """Return which position sees which, batch x 1 x time x time: earlier ones and itself, of its own segment."""
    same = segments.unsqueeze(2) == segments.unsqueeze(1)
    return same.tril().unsqueeze(1)


def positions_in(segments: Tensor) -> Tensor:
    """Return each position's place within its segment. Segments are contiguous."""
    places = torch.arange(segments.shape[1]).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = torch.where(begins, places, 0).cummax(dim=1).values
    return places - starts


def mean_loss(model: nn.Module, batches: Sequence[B], objective: Objective[B]) -> float:
    """Return the mean loss without training and without touching the random numbers; the mode is put back."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        total = sum(float(objective.summed(model, batch)) for batch in batches)
    model.train(was_training)
    return total / max(1, sum(objective.count(batch) for batch in batches))
