"""How fast scheduler and context decode in one process, without sockets: the counterpart of llama-batched-bench.

    python -m benchmarks.engine_speed MODEL THREADS STREAMS…

Prints JSON: streams to generated tokens per second, prompts not counted. Greedy, 64 tokens of prompt and of answer.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

from appliance.engine.llama_context import LlamaContext, LlamaModel, start_backend
from appliance.engine.prefix_cache import PrefixCache
from appliance.engine.scheduler import Limits, Scheduler, Sequence

TOKENS: Final = 64
_CELLS: Final = 8192


def main(arguments: list[str]) -> int:
    """Measure and print."""
    model_path, threads, *streams = arguments
    start_backend()
    model = LlamaModel(Path(model_path))
    slots = max(map(int, streams))
    context = LlamaContext(model, cells=_CELLS, batch=2048, ubatch=512, sequences=slots, threads=int(threads))
    rates = {}
    for count in map(int, streams):
        _decode(model, context, count, seed=1)
        rates[count] = _decode(model, context, count, seed=2)
    print(json.dumps(rates))
    return 0


def _decode(model: LlamaModel, context: LlamaContext, streams: int, *, seed: int) -> float:
    context.clear()
    limits = Limits(slots=streams, cells=_CELLS, batch=2048)
    cache = PrefixCache(cells=_CELLS, sequences=streams, memory=context, sharing=False)
    scheduler = Scheduler(limits=limits, cache=cache)
    for number in range(streams):
        prompt = [(seed * 7919 + number * 131 + index * 17) % model.vocabulary for index in range(TOKENS)]
        scheduler.submit(Sequence(tenant="", tokens=prompt, prompt=TOKENS, limit=2 * TOKENS + 1))
    generated, seconds = 0, 0.0
    while scheduler.busy:
        began = time.perf_counter()
        chunks = scheduler.plan()
        outputs = context.decode(chunks)
        rows = context.logits(len(outputs)) if outputs else None
        scheduler.complete(chunks, time.perf_counter() - began)
        asking = [chunk.sequence for chunk in chunks if chunk.last]
        for row, sequence in enumerate(asking):
            assert rows is not None
            sequence.tokens.append(int(rows[row].argmax()))
            if len(sequence.tokens) >= sequence.limit:
                scheduler.finish(sequence)
        if all(chunk.count == 1 for chunk in chunks):
            generated += len(asking)
            seconds += time.perf_counter() - began
    return generated / seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
