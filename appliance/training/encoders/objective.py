"""What encoders are trained for: cross entropy over labels of texts or of tokens, as the loop asks for it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from appliance.training.encoders.batches import TextBatch
from appliance.training.sampler import IGNORED


class Counted(Protocol):
    """A batch that says over how many targets its loss is a mean."""

    @property
    def tokens(self) -> Tensor: ...

    @property
    def targets(self) -> int: ...


class Counting:
    """The two counts of an objective, as the batch has them."""

    def count(self, batch: Counted) -> int:
        """Every target."""
        return batch.targets

    def tokens(self, batch: Counted) -> int:
        """Every position."""
        return batch.tokens.numel()


class LabelOfText(Counting):
    """Cross entropy of each text's label; `weights` says what a text of each label counts."""

    def __init__(self, weights: Tensor | None = None) -> None:
        self._weights = weights

    def summed(self, model: nn.Module, batch: TextBatch) -> Tensor:
        """Return the sum over the texts."""
        scores = model(batch.tokens, batch.mask)
        return nn.functional.cross_entropy(scores, batch.labels, weight=self._weights, reduction="sum")


class LabelOfToken(Counting):
    """Cross entropy of each token's tag."""

    def summed(self, model: nn.Module, batch: TextBatch) -> Tensor:
        """Return the sum over the tokens that have a tag."""
        logits = model(input_ids=batch.tokens, attention_mask=batch.mask).logits.float()
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
