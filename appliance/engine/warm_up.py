"""Measures how long the steps of a context take, when nothing else runs yet.

Touches every weight on the way, so that the first request finds them in memory. The context is empty afterwards.
"""

from __future__ import annotations

import time
from typing import Final

from appliance.engine.llama_context import LlamaContext
from appliance.engine.scheduler import Chunk, Sequence
from appliance.engine.step_cost import TILE, Attention, StepCost

_CURVE: Final = (1, 2, 4, 8, 16)
"""Numbers of rows whose step is measured, each so often that one is not the first, which makes the graph's room."""
_TURNS: Final = 2

_LEAST_TILE: Final = 4
_MOST_TILE: Final = 16
"""Rows alone that a tile may cost: the difference of two short steps is not measured exactly."""


def measured_cost(context: LlamaContext, *, streams: int) -> StepCost:
    """Return the price of a prompt's token and of steps of up to `streams` rows; there must be as many sequences."""
    few, deep = TILE * 3 // 4, 2 * TILE
    if context.batch >= deep and context.cells >= deep + TILE + few:
        _timed(context, [TILE])
        tile, alone = _timed(context, [TILE], [few], depth=deep)
        (token,), (shallow,) = _timed(context, [TILE]), _timed(context, [few])
        row = max(0.0, alone - shallow) / (few * (deep + TILE))
        attention = Attention(row=row, tile=min(max((tile - token) / deep, _LEAST_TILE * row), _MOST_TILE * row))
        token /= TILE
    else:
        prompt = min(TILE, context.batch, context.cells // 2)
        _timed(context, [prompt])
        token, attention = _timed(context, [prompt])[0] / prompt, None
    sizes = [rows for rows in _CURVE if rows <= min(streams, context.cells)]
    curve = {rows: min(_timed(context, [1] * rows)[0] for _ in range(_TURNS)) for rows in sizes}
    return StepCost(token=token, curve=curve, attention=attention)


def _timed(context: LlamaContext, *steps: list[int], depth: int = 0) -> list[float]:
    """Seconds of steps that compute so many tokens of as many sequences, the first behind `depth` others.

    The context is empty afterwards.
    """
    total = depth + sum(max(counts) for counts in steps)
    sequences = [
        Sequence(tenant="", tokens=[0] * total, prompt=total, limit=total, slot=slot)
        for slot in range(max(map(len, steps)))
    ]
    if depth:
        context.decode([Chunk(sequence, 0, depth, last=False) for sequence in sequences])
    seconds = []
    for counts in steps:
        chunks = [Chunk(sequence, depth, count, last=True) for sequence, count in zip(sequences, counts, strict=True)]
        began = time.monotonic()
        context.decode(chunks)
        seconds.append(time.monotonic() - began)
        depth += max(counts)
    context.clear()
    return seconds
