"""Finds the tokens that what is said consists of, and where in it each begins, for log-probabilities.

Positions of what was written count every character of the answer, those of what was said only what stays of it: marks,
reasoning and calls are written and not said. Invariant: a token is told once, with the first of its characters that is
shown, and never if none is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from appliance.engine.frames import TokenLogprob


@dataclass(slots=True)
class _Written:
    """A token over the written characters from `start` to `end`, those that it shares with others included."""

    entry: TokenLogprob
    start: int
    end: int
    offset: int | None = None
    """the character of what is said at which it begins"""


class SaidTokens:
    """The tokens of one answer that nothing is certain of yet."""

    __slots__ = ("_pending", "_said")

    def __init__(self) -> None:
        self._pending: deque[_Written] = deque()
        self._said = 0

    def write(self, entry: TokenLogprob, start: int, end: int) -> None:
        """Take the next token."""
        self._pending.append(_Written(entry, start, end))

    def say(self, start: int, length: int) -> None:
        """These written characters are said next, though a stop string may still cut them."""
        for token in self._pending:
            if token.start >= start + length:
                break
            if token.offset is None and token.end > start:
                token.offset = self._said + max(token.start - start, 0)
        self._said += length

    def settle(self, sorted_to: int, shown: int) -> list[TokenLogprob]:
        """Take out what is certain: everything before `sorted_to` was sorted, `shown` characters of it went out."""
        told, pending = [], self._pending
        while pending:
            token = pending[0]
            if token.offset is None:
                if token.end > sorted_to:
                    break
            elif token.offset < shown:
                told.append(msgspec.structs.replace(token.entry, offset=token.offset))
            else:
                break
            pending.popleft()
        return told
