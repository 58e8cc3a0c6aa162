"""Where the time of one stream goes between two steps of the engine: what S1 says of one stream, taken apart.

    python -m benchmarks.step_profile [--model FILE] [--greedy]

Starts gateway and engine as they are measured in S1, asks for answers one after the other, and prints microseconds per
token: of llama.cpp's computing, of the time between two computations, and of the parts of that. A part's own watch
costs less than one of these. Nothing is kept: it explains a figure, it is none.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import llama_cpp
import uvloop

from appliance.engine.llama_context import LlamaContext
from appliance.engine.outbox import Emitter
from appliance.engine.request import Request
from appliance.engine.sampling import Sampler
from appliance.engine.scheduler import Scheduler
from appliance.kernel.canonical import sha256_file
from benchmarks.random_model import write_gguf
from benchmarks.serving import CHAIN
from benchmarks.serving_scenarios import independent, measure_words
from benchmarks.serving_sides import SPIN, engine, gateway_before
from tools.build_llama_server import peer_directory

_OUT: Final = "STEP_PROFILE_OUT"
_RUNS: Final = 5
_LONGEST_GAP: Final = 0.002
"""A longer one lies between two requests, not between two tokens."""
_PARTS: Final[dict[str, tuple[type, str]]] = {
    "plan": (Scheduler, "plan"),
    "logits": (LlamaContext, "logits"),
    "books": (Scheduler, "complete"),
    "choose": (Sampler, "choose"),
    "text": (Request, "take"),
    "send": (Emitter, "send"),
}
"""what a part is called -> where it is done"""


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.step_profile", description=__doc__)
    parser.add_argument("--model", type=Path, help="GGUF file; default: that of the serving benchmark")
    parser.add_argument("--greedy", action="store_true", help="the most likely token each time, no chain of samplers")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="intramuros-profile-") as name:
        work = Path(name)
        model = options.model or write_gguf(work / "model")
        digest, out = sha256_file(model), work / "profile.json"

        def worker(socket: Path) -> list[str | Path]:
            _, *words = engine(model, digest, socket, threads=options.threads)
            own = words[words.index("--model") :]
            return [sys.executable, "-m", "benchmarks.step_profile", "--worker", *own]

        environment = {**SPIN, "LLAMA_CPP_LIB_PATH": str(peer_directory()), _OUT: str(out)}
        with gateway_before(work / "state", worker, digest=digest, environment=environment) as side:
            chain = {} if options.greedy else CHAIN
            target = replace(side.target, extra={**side.target.extra, **chain})
            text = uvloop.run(measure_words(side.target, 0))
            for run in range(_RUNS):
                uvloop.run(independent(target, text, 1 + run, streams=1))
        found: dict[str, float] = json.loads(out.read_bytes())
    for part, microseconds in found.items():
        print(f"{part:<24} {microseconds:8.0f} us")
    return 0


def _worker() -> int:
    """Be the engine, with a watch on each part; write the medians of steps of one token at the end."""
    parts = dict.fromkeys(_PARTS, 0.0)
    steps: list[dict[str, float]] = []
    ended = 0.0
    decode = llama_cpp.llama_decode

    def timed_decode(handle: Any, batch: Any) -> int:
        nonlocal ended
        began = time.perf_counter()
        gap = began - ended
        status: int = decode(handle, batch)
        now = time.perf_counter()
        if batch.n_tokens == 1 and gap < _LONGEST_GAP:
            steps.append({"computing": now - began, "between": gap, **parts})
        for name in parts:
            parts[name] = 0.0
        ended = now
        return status

    llama_cpp.llama_decode = timed_decode
    for name, (owner, method) in _PARTS.items():
        setattr(owner, method, _watched(getattr(owner, method), parts, name))
    try:
        runpy.run_module("appliance.engine.llama_worker", run_name="__main__")
    except SystemExit as end:
        told = {f"  {name}" if name in _PARTS else name: _median(steps, name) for name in steps[0]}
        Path(os.environ[_OUT]).write_text(json.dumps(told), encoding="utf-8")
        return int(end.code or 0)
    return 0


def _watched(act: Callable[..., Any], parts: dict[str, float], name: str) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return act(*given, **named)
        finally:
            parts[name] += time.perf_counter() - began

    return timed


def _median(steps: list[dict[str, float]], name: str) -> float:
    return statistics.median(step[name] for step in steps) * 1e6


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        del sys.argv[1]
        sys.exit(_worker())
    sys.exit(main(sys.argv[1:]))
