"""Guesses the next tokens from the text itself, and decides whether a guess is worth checking.

Pure. Prompt lookup (Saxena 2023; an n-gram form of speculative decoding, Leviathan et al. 2023): where the last few
tokens occurred before, what followed them then may follow now. A step checks all guessed tokens at once, so they cost
what a step of more rows costs; the answer is the same with and without.
"""

from __future__ import annotations

from collections.abc import Sequence as TokenIds
from dataclasses import dataclass, field
from typing import Final

from appliance.engine.step_cost import StepCost

MOST_DRAFTED: Final = 7
NGRAM: Final = 3
"""So many tokens must have occurred before in the same order: fewer guess badly."""

_SMOOTHING: Final = 0.1
_AT_FIRST: Final = 0.7


def worthwhile(cost: StepCost, *, rows: int, acceptance: float, most: int) -> int:
    """How many tokens of one more guess to check in a step of `rows` streams: the number with the best speed, or 0.

    Each guessed token is right with probability `acceptance` if those before it were. A guess of k tokens brings
    a + a^2 + ... + a^k more tokens to the one stream's own, and makes the step as slow as one of rows + k.
    """
    base = cost.rows(rows)
    best, fastest = 0, rows / base if base > 0 else 0.0
    gained = 0.0
    for count in range(1, most + 1):
        gained += acceptance**count
        seconds = cost.rows(rows + count)
        if seconds > 0 and (rows + gained) / seconds > fastest:
            best, fastest = count, (rows + gained) / seconds
    return best


@dataclass(slots=True)
class Lookup:
    """The n-grams of one request's tokens, and how often guesses from them were right.

    A request whose guesses are too often wrong gets no more of them.
    """

    acceptance: float = _AT_FIRST
    _seen: int = 0
    _ends: dict[tuple[int, ...], int] = field(default_factory=dict)

    def draft(self, tokens: TokenIds[int], most: int) -> list[int]:
        """Up to `most` tokens that may come next; empty when the last n-gram is new."""
        for end in range(max(self._seen, NGRAM), len(tokens)):
            self._ends[tuple(tokens[end - NGRAM : end])] = end
        self._seen = max(self._seen, len(tokens))
        at = self._ends.get(tuple(tokens[-NGRAM:]), len(tokens))
        return list(tokens[at : at + most])

    def learn(self, *, drafted: int, accepted: int) -> None:
        """Take note of a checked guess: `accepted` right ones, and one wrong one unless all were right."""
        for _ in range(accepted):
            self.acceptance += _SMOOTHING * (1.0 - self.acceptance)
        if accepted < drafted:
            self.acceptance *= 1.0 - _SMOOTHING
