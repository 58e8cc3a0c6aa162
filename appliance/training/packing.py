"""Fills sequences with whole examples, so that little is computed on padding. No example is cut, none sees another.

A pure function of the examples, the length and the seed: best fit over the examples in shuffled order. What is packed
together stays together in every epoch; the order of the packed sequences does not.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from appliance.training.runtime import derive_seed
from appliance.training.sampler import IGNORED, Example, permutation
from appliance.weights.token_ids import int32


def pack(examples: Sequence[Example], *, length: int, seed: int) -> tuple[Example, ...]:
    """Return sequences of at most `length` tokens that hold every example once.

    The first token of an example is nobody's next one, so it carries no loss.
    """
    bins: list[list[int]] = []
    # (free tokens, bin), sorted: the fullest bin that still takes an example is found by bisection.
    room: list[tuple[int, int]] = []
    for row in permutation(len(examples), derive_seed(seed, "packing"), 0):
        needed = len(examples[row].tokens)
        place = bisect_left(room, (needed, -1))
        if place == len(room):
            bins.append([row])
            insort(room, (length - needed, len(bins) - 1))
            continue
        free, chosen = room.pop(place)
        bins[chosen].append(row)
        insort(room, (free - needed, chosen))
    return tuple(_joined([examples[row] for row in rows]) for rows in bins)


def _joined(examples: Sequence[Example]) -> Example:
    return Example(
        tokens=int32(token for example in examples for token in example.tokens),
        labels=int32(label for example in examples for label in (IGNORED, *example.labels[1:])),
        lengths=tuple(len(example.tokens) for example in examples),
    )
