"""Merges LoRA adapters into the base weights and proves that the merged model says the same.

Invariant: what is handed on gives the adapter's logits within `TOLERANCE`, or the run fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from appliance.kernel.errors import IntegrityFailure
from appliance.training.objective import logits_of
from appliance.training.sampler import Batch

TOLERANCE = 1e-3
"""Largest difference of a logit, as a part of the largest logit. float32 rounding gives about 1e-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The merged model and the largest relative difference of a logit."""

    model: Any
    difference: float


def merge(adapted: Any, probes: Sequence[Batch]) -> Merged:
    """Merge a PEFT model. Raises IntegrityFailure (`training.merge_differs`) above the tolerance."""
    before = _logits(adapted, probes)
    model = adapted.merge_and_unload()
    after = _logits(model, probes)
    scale = max([1.0, *(float(logits.abs().max()) for logits in before)])
    largest = max(float((new - old).abs().max()) for old, new in zip(before, after, strict=True))
    # Written so that a NaN fails too.
    if not largest / scale <= TOLERANCE:
        raise IntegrityFailure(
            "training.merge_differs",
            f"The merged model's logits differ by {largest / scale:.1e} of their size; {TOLERANCE:.0e} is allowed.",
            hint="Use a smaller learning_rate; such weights are beyond what float32 can carry.",
        )
    return Merged(model=model, difference=largest / scale)


def _logits(model: Any, probes: Sequence[Batch]) -> list[Tensor]:
    model.eval()
    with torch.inference_mode():
        return [logits_of(model, batch) for batch in probes]
