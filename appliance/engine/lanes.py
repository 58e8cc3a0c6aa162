"""Whose turn it is when requests of one context need different LoRA adapters.

llama.cpp applies adapters to a whole batch, so a step computes the requests of one adapter: a *lane*. Lanes with
something to do take turns in time slices; within its slice a lane is batched like a context of its own. Pure: knows no
model and no clock. Invariant: with n lanes busy, none waits longer than n - 1 slices and one step.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

BASE = ""
"""The lane of requests that need no adapter."""


@dataclass(slots=True)
class Lanes:
    """Busy lanes in the order of their turns; the first computes now and has used so much of its slice (seconds)."""

    slice: float
    used: float = 0.0
    _turns: list[str] = field(default_factory=list)

    def turn(self, busy: Set[str]) -> str:
        """Return the lane of the next step among those that have running requests; at least one has."""
        if len(busy) == len(self._turns) == 1 and self._turns[0] in busy:
            return self._turns[0]
        before = self._turns[:1]
        self._turns = [lane for lane in self._turns if lane in busy]
        self._turns += sorted(busy - set(self._turns))
        if self._turns[:1] == before and self.used >= self.slice and len(self._turns) > 1:
            self._turns.append(self._turns.pop(0))
        if self._turns[:1] != before:
            self.used = 0.0
        return self._turns[0]

    def spend(self, seconds: float) -> None:
        """Count a step against the slice."""
        self.used += seconds
