"""Token ids as a whole data set of them is held: numbers of 32 bits, and encoded a slice of texts at a time."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

_AT_ONCE: Final = 1000
"""Texts: until it is given back, an encoding holds far more than its ids."""


def int32(ids: Iterable[int]) -> array[int]:
    """Return ids, or labels in their places, four bytes each; a list of them takes ten times as much."""
    return array("i", ids)


def tensor(ids: array[int]) -> Tensor:
    """Return the same numbers (int32) in the same memory."""
    return torch.frombuffer(ids, dtype=torch.int32) if ids else torch.empty(0, dtype=torch.int32)


def rows_digest(rows: Iterable[array[int]]) -> str:
    """Return the SHA-256 of rows of ids in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(len(row).to_bytes(8, "little") + row.tobytes())
    return digest.hexdigest()


def once_each(keys: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Return where each different key stands first, by the keys' own order, and for every key its place among those."""
    first: dict[Any, int] = {}
    for at, key in enumerate(keys):
        first.setdefault(key, at)
    order = sorted(first)
    place = {key: number for number, key in enumerate(order)}
    return [first[key] for key in order], [place[key] for key in keys]


def slices(texts: Sequence[str]) -> Iterator[list[str]]:
    """Return the texts in their order, as many at a time as are encoded together."""
    for start in range(0, len(texts), _AT_ONCE):
        yield list(texts[start : start + _AT_ONCE])
