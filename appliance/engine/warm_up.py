"""Measures how long the steps of a context take, when nothing else runs yet.

Touches every weight on the way, so that the first request finds them in memory. The context is empty afterwards.
"""

from __future__ import annotations

import time
from typing import Final

from appliance.engine.llama_context import LlamaContext
from appliance.engine.scheduler import Chunk, Sequence
from appliance.engine.step_cost import StepCost

_CURVE: Final = (1, 2, 4, 8, 16)
"""Numbers of rows whose step is measured."""
_PROMPT: Final = 128
_TURNS: Final = 2


def measured_cost(context: LlamaContext, *, streams: int) -> StepCost:
    """Return the price of a prompt's token and of steps of up to `streams` rows; there must be as many sequences."""
    prompt = min(_PROMPT, context.batch, context.cells // 2)
    sizes = [rows for rows in _CURVE if rows <= min(streams, context.cells)]
    token = _seconds(context, [prompt]) / prompt
    return StepCost(token=token, curve={rows: _seconds(context, [1] * rows) for rows in sizes})


def _seconds(context: LlamaContext, counts: list[int]) -> float:
    """Seconds of a step of so many tokens of as many new sequences; not the first, which makes the graph's room."""
    chunks = []
    for slot, count in enumerate(counts):
        sequence = Sequence(tenant="", tokens=[0] * count, prompt=count, limit=count, slot=slot)
        chunks.append(Chunk(sequence, 0, count, last=True))
    fastest = float("inf")
    for _ in range(_TURNS):
        began = time.monotonic()
        context.decode(chunks)
        fastest = min(fastest, time.monotonic() - began)
        context.clear()
    return fastest
