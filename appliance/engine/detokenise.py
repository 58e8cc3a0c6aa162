"""Stop strings: holds back text that may be the beginning of one, and ends with the first that is complete.

Invariant: the pieces it returned, joined, are a prefix of the whole text that no later piece can change.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """The stop strings of one request."""

    __slots__ = ("_held", "_stops", "stopped")

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, new: str) -> str:
        """Text that is certain after `new`. After a stop string `stopped` is set, and the rest is dropped."""
        if not self._stops or self.stopped:
            return "" if self.stopped else new
        text = self._held + new
        start = _first_stop(text, self._stops)
        if start >= 0:
            self.stopped, self._held = True, ""
            return text[:start]
        keep = held_back(text, self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        text, self._held = self._held, ""
        return text


def held_back(text: str, words: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins one of `words`."""
    for length in range(min(len(text), max(map(len, words), default=1) - 1), 0, -1):
        end = text[-length:]
        if any(word.startswith(end) for word in words):
            return length
    return 0


def _first_stop(text: str, stops: tuple[str, ...]) -> int:
    """Where the stop string begins that is complete first (of several, the longest), or -1."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return min(found)[1] if found else -1
