"""Guesses the next tokens from the text itself.

Pure. Prompt lookup (Saxena 2023; an n-gram form of speculative decoding): where the last few tokens occurred before,
what followed them then may follow now. Whether that is worth checking is decided in `speculation`.
"""

from __future__ import annotations

from collections.abc import Sequence as TokenIds
from dataclasses import dataclass, field
from typing import Final

from appliance.engine.speculation import Acceptance

NGRAM: Final = 3
"""So many tokens must have occurred before in the same order: fewer guess badly."""


@dataclass(slots=True)
class Lookup:
    """The n-grams of one request's tokens, and how often guesses from them were right.

    A request whose guesses are too often wrong gets no more of them.
    """

    acceptance: Acceptance = field(default_factory=Acceptance)
    _seen: int = 0
    _ends: dict[tuple[int, ...], int] = field(default_factory=dict)

    def draft(self, tokens: TokenIds[int], most: int) -> list[int]:
        """Up to `most` tokens that may come next; empty when the last n-gram is new."""
        for end in range(max(self._seen, NGRAM), len(tokens)):
            self._ends[tuple(tokens[end - NGRAM : end])] = end
        self._seen = max(self._seen, len(tokens))
        at = self._ends.get(tuple(tokens[-NGRAM:]), len(tokens))
        return list(tokens[at : at + most])
