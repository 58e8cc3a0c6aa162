"""How long a step will take: what the prefill budget and speculation decide by.

Pure arithmetic on measured steps. A step has `rows` single tokens and some prompt tokens. Its time is a curve over the
rows, measured when the model is loaded and corrected by every step, plus a price for each prompt token.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

_SMOOTHING: Final = 0.2
_LEAST_PROMPT: Final = 16
"""Fewer prompt tokens say too little about the price of one."""


class StepCost:
    """Seconds of a step. `curve` gives some numbers of rows and the seconds of a step with that many."""

    def __init__(self, *, token: float = 0.001, curve: dict[int, float] | None = None) -> None:
        self.token = token
        self._rows = sorted(curve or {1: 0.0})
        self._seconds = [(curve or {1: 0.0})[rows] for rows in self._rows]

    def rows(self, rows: int) -> float:
        """Seconds of a step of `rows` tokens, one for each stream; beyond the curve's end in proportion."""
        if rows <= 0:
            return 0.0
        at = bisect_left(self._rows, rows)
        if at == len(self._rows):
            return self._seconds[-1] * rows / self._rows[-1]
        if at == 0 or self._rows[at] == rows:
            return self._seconds[at]
        left, right = self._rows[at - 1], self._rows[at]
        share = (rows - left) / (right - left)
        return self._seconds[at - 1] * (1 - share) + self._seconds[at] * share

    def observe(self, *, rows: int, prompt_tokens: int, seconds: float) -> None:
        """Learn from one finished step."""
        if not prompt_tokens:
            self._correct(rows, seconds)
        elif prompt_tokens >= _LEAST_PROMPT:
            price = max(0.0, seconds - self.rows(rows)) / prompt_tokens
            self.token += _SMOOTHING * (price - self.token)

    def chunk(self, target: float, *, rows: int) -> int:
        """The most prompt tokens that keep a step with `rows` others under `target` seconds; may be negative."""
        return int((target - self.rows(rows)) / max(self.token, 1e-9))

    def _correct(self, rows: int, seconds: float) -> None:
        """Move the nearest known point of the curve by a part of the error."""
        if rows <= 0:
            return
        nearest = min(range(len(self._rows)), key=lambda at: abs(self._rows[at] - rows))
        error = seconds - self.rows(rows)
        self._seconds[nearest] = max(0.0, self._seconds[nearest] + _SMOOTHING * error)
