"""Which rows stay, and on which side: exact duplicates go, the split is decided, nothing leaks into evaluation.

Works on digests only, so the rows themselves can stream. Without a split column a row's side is a
pure function of (seed, what the user says): equal questions are never on both sides, and a row keeps its side when
the file grows. With a split column the held-out part is left as its author made it, and a training row that asks
what a held-out row asks is set aside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from appliance.datasets.rows import Row, prompt_of
from appliance.kernel.canonical import canonical_json

TRAIN: Final = "train"
HELDOUT: Final = "heldout"


class Fate(StrEnum):
    """What becomes of a row."""

    TRAIN = "train"
    HELDOUT = "heldout"
    LEAK = "leak"


@dataclass(frozen=True, slots=True)
class _Placed:
    """A kept row, in the order of the file."""

    side: str
    prompt: bytes


@dataclass(slots=True, kw_only=True)
class Sides:
    """Collects every row once, then tells each kept row's fate in the same order."""

    seed: int
    heldout_percent: int
    duplicates: int = 0
    _assigned: bool = False
    _seen: set[bytes] = field(default_factory=set)
    _placed: list[_Placed] = field(default_factory=list)

    def add(self, row: Row) -> bytes | None:
        """Return the row's canonical JSON, or None for an exact duplicate on the same side."""
        data = canonical_json(row.content)
        prompt = prompt_digest(row.content)
        self._assigned = self._assigned or bool(row.split)
        side = row.split or hashed_side(self.seed, prompt, heldout_percent=self.heldout_percent)
        key = hashlib.sha256(side.encode() + b"\0" + essence(row.content)).digest()
        if key in self._seen:
            self.duplicates += 1
            return None
        self._seen.add(key)
        self._placed.append(_Placed(side, prompt))
        return data

    def fates(self) -> Iterator[Fate]:
        """Yield the fate of each kept row.

        When chance puts every row of a small file on the held-out side, all are for training instead; never so for
        rows whose author said where they belong.
        """
        if not self._assigned and all(placed.side == HELDOUT for placed in self._placed):
            yield from (Fate.TRAIN for _ in self._placed)
            return
        heldout = {placed.prompt for placed in self._placed if placed.side == HELDOUT}
        for placed in self._placed:
            if placed.side == HELDOUT:
                yield Fate.HELDOUT
            else:
                yield Fate.LEAK if placed.prompt in heldout else Fate.TRAIN


def essence(content: dict[str, Any]) -> bytes:
    """Return what makes two rows the same: everything but the columns that were only kept."""
    return canonical_json({part: value for part, value in content.items() if part != "meta"})


def prompt_digest(content: dict[str, Any]) -> bytes:
    """Return 16 bytes that name what the user says, regardless of case and white space."""
    text = " ".join(prompt_of(content).casefold().split())
    return hashlib.sha256(text.encode()).digest()[:16]


def hashed_side(seed: int, prompt: bytes, *, heldout_percent: int) -> str:
    """Return the side of a row that has none: held out with the given probability, by SHA-256."""
    return HELDOUT if drawn_percent(seed, prompt) < heldout_percent else TRAIN


def drawn_percent(seed: int, prompt: bytes) -> int:
    """Return a number from 0 to 99, drawn by SHA-256 for what is asked."""
    digest = hashlib.sha256(f"{seed}\0".encode() + prompt).digest()
    return int.from_bytes(digest[:8], "big") % 100
