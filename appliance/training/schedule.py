"""The learning rate of each step: linear warm-up, then a cosine. Pure arithmetic, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Peak rate, number of steps, and the two fractions of a recipe."""

    peak: float
    steps: int
    warmup_fraction: float
    final_fraction: float

    def rate(self, step: int) -> float:
        """Return the learning rate of a step counted from 0; always above 0 in the warm-up."""
        warmup = round(self.steps * self.warmup_fraction)
        if step < warmup:
            return self.peak * (step + 1) / (warmup + 1)
        position = (step - warmup) / max(1, self.steps - warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, position)))
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * cosine)
