"""Turns the bytes of generated tokens into text that may be shown: whole characters, and never part of a stop string.

Owns the text of one request between the sampler and the wire. Invariant: the pieces it returned, joined, are a prefix
of the whole answer that no later token can change, however the bytes were cut.
"""

from __future__ import annotations

import codecs


class TextStream:
    """The growing answer of one request. Bytes that are not UTF-8 become U+FFFD."""

    __slots__ = ("_decoder", "_held", "_stops", "stopped")

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, data: bytes) -> str:
        """Text that is certain after `data`. After a stop string `stopped` is set, and the rest is dropped."""
        return self._advance(self._decoder.decode(data))

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        text = self._advance(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _advance(self, new: str) -> str:
        if not self._stops or self.stopped:
            return "" if self.stopped else new
        text = self._held + new
        start = _first_stop(text, self._stops)
        if start >= 0:
            self.stopped, self._held = True, ""
            return text[:start]
        keep = _held_back(text, self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _first_stop(text: str, stops: tuple[str, ...]) -> int:
    """Where the stop string begins that is complete first (of several, the longest), or -1."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return min(found)[1] if found else -1


def _held_back(text: str, stops: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that begins one of `stops`."""
    for length in range(min(len(text), max(map(len, stops)) - 1), 0, -1):
        end = text[-length:]
        if any(stop.startswith(end) for stop in stops):
            return length
    return 0
