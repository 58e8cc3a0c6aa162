"""Which texts are nearly the same: MinHash over pieces of characters proposes, the exact Jaccard index decides.

The first of several similar texts stands for all of them, so the work stays linear where a file is full of variants.
Deterministic: the hash functions have a fixed seed, and texts are taken in the order in which they come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from appliance.kernel.errors import BadInput

DEFAULT_THRESHOLD: Final = 0.85
_PIECE = 5
_LONGEST = 20_000
_PERMUTATIONS = 128
_SEED = 1
_CANDIDATES = 256
"""Proposals that are computed exactly, the earliest first: thousands of texts from one template stay affordable."""
_WEIGHTS = (0.1, 0.9)
"""How much a wrong and a missed proposal cost when bands are chosen: wrong ones are weeded out exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """The earlier text that another resembles, by its number, and how much (1 is the same pieces)."""

    number: int
    similarity: float


class NearIndex:
    """Texts by number, each compared with those before it."""

    def __init__(self, *, threshold: float) -> None:
        """Raises BadInput `dataset.near` for a threshold outside 0.5 to 1."""
        if not 0.5 <= threshold <= 1:
            raise BadInput("dataset.near", f"{threshold} is no threshold of similarity.", hint="Give 0.5 to 1.")
        self._threshold = threshold
        self._index = MinHashLSH(
            threshold=min(threshold, 0.98), num_perm=_PERMUTATIONS, weights=_WEIGHTS, prepickle=False
        )
        self._pieces: dict[int, NDArray[np.uint32]] = {}
        self._first = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=int)

    def place(self, number: int, text: str) -> Likeness | None:
        """Return the earlier text that this one resembles; where there is none, it is kept for the later ones."""
        pieces = _pieces_of(text)
        sketch = self._sketch(pieces)
        likeness = self._most_like(pieces, sketch)
        if likeness is None:
            self._index.insert(number, sketch)
            self._pieces[number] = pieces
        return likeness

    def find(self, text: str) -> Likeness | None:
        """Return the kept text that this one resembles most."""
        pieces = _pieces_of(text)
        return self._most_like(pieces, self._sketch(pieces))

    def _most_like(self, pieces: NDArray[np.uint32], sketch: MinHash) -> Likeness | None:
        found = [
            Likeness(number=number, similarity=similarity)
            for number in sorted(self._index.query(sketch))[:_CANDIDATES]
            if (similarity := _jaccard(pieces, self._pieces[number])) >= self._threshold
        ]
        return max(found, key=lambda likeness: (likeness.similarity, -likeness.number), default=None)

    def _sketch(self, pieces: NDArray[np.uint32]) -> MinHash:
        sketch = self._first.copy()
        sketch.update_batch(pieces.tolist())
        return sketch


def _pieces_of(text: str) -> NDArray[np.uint32]:
    """Return the sorted hashes of all pieces of five characters, regardless of case and white space."""
    plain = " ".join(text.casefold().split())[:_LONGEST]
    pieces: Iterable[str] = {plain[at : at + _PIECE] for at in range(max(1, len(plain) - _PIECE + 1))}
    digests = [hashlib.blake2b(piece.encode(), digest_size=4).digest() for piece in pieces]
    return np.unique(np.frombuffer(b"".join(digests), dtype="<u4"))


def _jaccard(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
