"""SentencePiece's BPE (Kudo and Richardson, 2018) as a GGUF file has it: a score for each piece.

A tokenizer.json lists the pairs that merge, in their order. llama.cpp merges any neighbours whose text is a piece: the
piece with the best score first, the leftmost of equals. Scores say the same as the list only where every pair that
could make a piece is on it, and pieces come one after the other; whatever is listed otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

from appliance.conversion.refusal import refused

_LONGEST: Final = 1024
"""characters of a piece: every pair that could make it is looked at"""
_GAPS: Final = 65536
"""ids that no piece has"""


def scores_of(vocabulary: Mapping[str, int], merges: Iterable[tuple[str, str]]) -> tuple[float, ...]:
    """Return each token's score by its id; 0 for one that no merge makes. Raises BadInput `conversion.tokenizer`."""
    if max(vocabulary.values()) >= len(vocabulary) + _GAPS:
        raise refused(f"its {len(vocabulary)} pieces have ids up to {max(vocabulary.values())}")
    ranks: dict[str, list[int]] = {}
    listed = set()
    for rank, (left, right) in enumerate(merges):
        listed.add((left, right))
        ranks.setdefault(left + right, []).append(rank)
    _require_every_pair(vocabulary, listed)
    scores = [0.0] * (max(vocabulary.values()) + 1)
    for place, equals in enumerate(_in_turns(ranks), start=1):
        for piece in equals:
            scores[vocabulary[piece]] = -float(place)
    return tuple(scores)


def _require_every_pair(vocabulary: Mapping[str, int], listed: set[tuple[str, str]]) -> None:
    for piece in vocabulary:
        if len(piece) > _LONGEST:
            raise refused(f"the piece {piece[:40]!r}… has {len(piece)} characters")
        for cut in range(1, len(piece)):
            pair = (piece[:cut], piece[cut:])
            if pair[0] in vocabulary and pair[1] in vocabulary and pair not in listed:
                raise refused(f"{pair[0]!r} and {pair[1]!r} never merge although {piece!r} is a piece")


def _in_turns(ranks: Mapping[str, list[int]]) -> list[list[str]]:
    """Return the pieces in the order in which they are made; those whose pairs are interleaved together."""
    pieces = sorted(ranks, key=lambda piece: ranks[piece][0])
    turns = [pieces[:1]] if pieces else []
    end = ranks[pieces[0]][-1] if pieces else 0
    for earlier, piece in pairwise(pieces):
        if ranks[piece][0] > end:
            turns.append([piece])
        elif len(set(earlier + piece)) > 1:
            raise refused(f"pairs that make {earlier!r} and {piece!r} are interleaved")
        else:
            # Runs of one character grow from the left, whichever length comes first.
            turns[-1].append(piece)
        end = max(end, ranks[piece][-1])
    return turns
