"""The loss of a batch: over its targets, and nothing is computed for positions that have none."""

from __future__ import annotations

import torch
from torch import nn

from appliance.training.objective import NextToken, predictions
from appliance.training.sampler import IGNORED, Batch
from tests.unit.training.tiny_model import TinyModel

BATCH = Batch(
    tokens=torch.arange(1, 13).view(2, 6),
    labels=torch.tensor([[IGNORED, IGNORED, IGNORED, 4, 5, 6], [IGNORED, IGNORED, IGNORED, IGNORED, 11, IGNORED]]),
)


def test_positions_without_a_target_in_any_row_cost_no_logits() -> None:
    logits, targets = predictions(TinyModel(), BATCH)
    assert logits.shape == (2, 3, 32)
    assert targets.tolist() == [[4, 5, 6], [IGNORED, 11, IGNORED]]


def test_the_loss_is_that_of_all_positions() -> None:
    model = TinyModel(dropout=0.0)
    everything = model(input_ids=BATCH.tokens, logits_to_keep=torch.arange(6)).logits[:, :-1]
    wanted = nn.functional.cross_entropy(
        everything.flatten(0, 1), BATCH.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    torch.testing.assert_close(NextToken().summed(model, BATCH), wanted)


def test_a_batch_without_targets_teaches_nothing() -> None:
    model = TinyModel(dropout=0.0)
    silent = Batch(tokens=BATCH.tokens, labels=torch.full_like(BATCH.tokens, IGNORED))
    loss = NextToken().summed(model, silent)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0.0
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())
