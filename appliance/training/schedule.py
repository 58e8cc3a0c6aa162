"""The learning rate of each step: linear warm-up, then a cosine, a line or nothing. Pure arithmetic, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Peak rate, number of steps, the two fractions of a recipe, and how the rate falls."""

    peak: float
    steps: int
    warmup_fraction: float
    final_fraction: float
    shape: Shape = "cosine"

    def rate(self, step: int) -> float:
        """Return the learning rate of a step counted from 0; always above 0 in the warm-up."""
        warmup = round(self.steps * self.warmup_fraction)
        if step < warmup:
            return self.peak * (step + 1) / (warmup + 1)
        position = min(1.0, (step - warmup) / max(1, self.steps - warmup))
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * self._left(position))

    def _left(self, position: float) -> float:
        """Return which part of the fall is still to come at a position from 0 to 1."""
        match self.shape:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * position))
            case "linear":
                return 1 - position
            case "constant":
                return 1.0
