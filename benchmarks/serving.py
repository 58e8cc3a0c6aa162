"""Gateway and engine against llama-server: the same libllama, model, prompts and client, in turns.

Every scenario runs in pairs; a figure is the median of the pairwise ratios ours / theirs, held against its goal.
Scenarios: S1 independent prompts, S2 the engine alone against llama-batched-bench, S3 a shared prompt cold and warm,
S4 a document that is in use, S5 a long prompt among streams, S6 what the gateway adds, beside LiteLLM's proxy, S7 text
held to a schema against free text, and under every schema of a published suite, S8 a machine whose cores are busy, S11
goodput, S12 tenants that attack and an engine that aborts, S13 the share of the roofline, S14 an engine that is killed
at random moments, S16 an engine with a draft model against the same without. See `serving_scenarios`, `schema_suite`,
`gateway_latency`, `serving_faults` and `drafts`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.comparison import Figure, at_least, at_most, keep_figures, turns
from benchmarks.drafts import draft_figures
from benchmarks.gateway_latency import gateway_figures
from benchmarks.processes import running
from benchmarks.random_model import write_gguf
from benchmarks.schema_suite import suite_figures
from benchmarks.serving_faults import fault_figures
from benchmarks.serving_scenarios import (
    Text,
    busy_document,
    goodput,
    in_a_schema,
    independent,
    long_prompt,
    measure_words,
    shared_prompt,
)
from benchmarks.serving_sides import SPIN, Side, llama_server, ours
from benchmarks.sse_load import Target, run_load
from tools.build_llama_server import peer_directory

_STREAMS: Final = (1, 4, 8, 16)
_CHAIN: Final = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
_WARM_UP: Final = 10**6
_ENGINE_STREAMS: Final = (1, 8, 16)
_MANY: Final = 32

Scenario = Callable[[Target, Text, int], Coroutine[Any, Any, dict[str, float]]]
Runs = dict[str, list[float]]
"""name of a figure -> ratio of each pair"""


def main(arguments: list[str]) -> int:
    """Measure and put what was found into benchmarks/results/serving.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--model", type=Path, help="GGUF file; default: a random Llama of 0.1 billion parameters, Q8_0")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--scenarios", nargs="+", default=list(ALL), choices=ALL, metavar="SCENARIO")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kills", type=int, default=50, help="how often S14 kills the engine")
    parser.add_argument("--cuda", action="store_true", help="both sides on the graphics card, and 32 streams (G1)")
    options = parser.parse_args(arguments)
    # Written after each scenario, so that an interrupted measurement keeps what it has.
    keep = partial(keep_figures, "serving-gpu" if options.cuda else "serving")
    with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name:
        work = Path(name)
        model = options.model or write_gguf(work / "model")
        peer = peer_directory(cuda=options.cuda)
        if options.cuda:
            keep(_many_streams(work, model, peer, options))
        with (
            ours(work / "state", model, peer, threads=options.threads, gpu=options.cuda) as our_side,
            llama_server(work, model, peer, threads=options.threads) as their_side,
        ):
            sides = {"ours": our_side, "llama-server": their_side}
            text = uvloop.run(measure_words(our_side.target, _WARM_UP))
            for scenario in options.scenarios:
                if scenario in _SCENARIOS:
                    keep(_SCENARIOS[scenario](sides, text, options.pairs))
            if "S13" in options.scenarios:
                keep(_roofline(our_side, text, model, work, options))
        if "S2" in options.scenarios:
            keep(_engine_alone(model, peer, options))
        if "S6" in options.scenarios:
            keep(gateway_figures(work, min(options.pairs, 3)))
        if "S8" in options.scenarios:
            keep(_busy_cores(work, model, peer, options))
        if "S16" in options.scenarios:
            keep(draft_figures(work, threads=options.threads, pairs=options.pairs))
        keep(fault_figures(work, model, threads=options.threads, kills=options.kills, scenarios=options.scenarios))
    return 0


def _independent(sides: dict[str, Side], text: Text, pairs: int) -> list[Figure]:
    """Independent prompts: greedy, and with llama-server's default chain of samplers."""
    figures, rates, costs = [], [], []
    for number, (chain, settings) in enumerate((("greedy", {}), ("chain", _CHAIN))):
        set_up = {
            name: replace(side, target=replace(side.target, extra={**side.target.extra, **settings}))
            for name, side in sides.items()
        }
        for streams in _STREAMS:
            seed = 50_000 * number + 1000 * streams  # nobody has cached a prompt of the other part
            runs = _pairs(set_up, text, pairs, partial(independent, streams=streams), seed=seed)
            figures.append(Figure(f"S1.{chain}.{streams}", "ratio", at_least(0.95), runs["rate"]))
            rates.append(figures[-1].value)
            costs += runs["cpu"]
    mean = statistics.geometric_mean(rates)
    return [
        Figure("S1", "ratio", at_least(1.0), [mean]),
        *figures,
        Figure("S1.cpu", "ratio", at_most(1.05), costs),
    ]


def _shared_prompt(sides: dict[str, Side], text: Text, pairs: int) -> list[Figure]:
    runs = _pairs(sides, text, pairs, shared_prompt, seed=100_000)
    return [
        Figure("S3.cold.ttft", "ratio", at_most(0.25), runs["cold_first"]),
        Figure("S3.cold.rate", "ratio", at_least(3.0), runs["cold_rate"]),
        Figure("S3.warm.ttft", "ratio", at_most(0.08), runs["warm_first"]),
        Figure("S3.warm.rate", "ratio", at_least(5.0), runs["warm_rate"]),
    ]


def _busy_document(sides: dict[str, Side], text: Text, pairs: int) -> list[Figure]:
    runs = _pairs(sides, text, pairs, busy_document, seed=200_000)
    return [Figure("S4.ttft", "ratio", at_most(0.1), runs["first"])]


def _long_prompt(sides: dict[str, Side], text: Text, pairs: int) -> list[Figure]:
    runs = _pairs(sides, text, pairs, long_prompt, seed=300_000)
    return [
        Figure("S5.gap", "ratio", at_most(0.4), runs["gap"]),
        Figure("S5.ttft", "ratio", at_most(1.5), runs["first"]),
    ]


def _goodput(sides: dict[str, Side], text: Text, pairs: int) -> list[Figure]:
    runs = _pairs(sides, text, min(pairs, 3), goodput, seed=400_000)
    return [Figure("S11.goodput", "ratio", at_least(1.5), runs["goodput"])]


def _in_a_schema(sides: dict[str, Side], text: Text, pairs: int) -> list[Figure]:
    target, ratios = sides["ours"].target, []
    for pair, order in enumerate(turns("schema", "free", pairs)):
        rates = {}
        for name in order:
            held = _SCHEMA if name == "schema" else None
            # One engine answers both: prompts of its own for each, or the second would find the first one's cached.
            seed = 500_000 + 2 * pair + (held is not None)
            rates[name] = uvloop.run(in_a_schema(target, text, seed, schema=held))["rate"]
        ratios.append(rates["schema"] / rates["free"])
    return [Figure("S7.rate", "ratio", at_least(0.9), ratios), *suite_figures(sides["ours"])]


_SCENARIOS: Final = {
    "S1": _independent,
    "S3": _shared_prompt,
    "S4": _busy_document,
    "S5": _long_prompt,
    "S7": _in_a_schema,
    "S11": _goodput,
}
ALL: Final = ("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S11", "S12", "S13", "S14", "S16")
_SCHEMA: Final[dict[str, Any]] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "count": {"type": "integer"}, "sure": {"type": "boolean"}},
        "required": ["name", "count", "sure"],
        "additionalProperties": False,
    },
    "minItems": 100,
}
"""Never finished within the tokens of an answer, so that both sides generate as many."""
_HOG: Final = "while True: pass"


def _busy_cores(work: Path, model: Path, peer: Path, options: argparse.Namespace) -> list[Figure]:
    """S8: as many busy loops as cores beside the engine, as it is started against libgomp's own waiting.

    Half of what it does alone is all that a fair scheduler can give it: that is the ceiling of the ratio.
    """
    environments = {"alone": SPIN, "ours": SPIN, "default": {}}
    rates: dict[str, list[float]] = {name: [] for name in environments}
    for pair, order in enumerate(turns("ours", "default", min(options.pairs, 3))):
        for name in ("alone", *order):
            with contextlib.ExitStack() as stack:
                for number in range(0 if name == "alone" else options.threads):
                    stack.enter_context(running([sys.executable, "-c", _HOG], log=work / f"hog-{number}.log"))
                state, environment = work / f"busy-{name}-{pair}", environments[name]
                side = stack.enter_context(ours(state, model, peer, threads=options.threads, environment=environment))
                load = uvloop.run(run_load(side.target, ["river stone"], streams=1, max_tokens=32))
                rates[name].append(load.tokens_per_second)
    alone, mine, default = rates.values()
    return [
        Figure("S8", "ratio", at_least(10), [one / other for one, other in zip(mine, default, strict=True)]),
        Figure("S8.ceiling", "ratio", None, [one / 2 / other for one, other in zip(alone, default, strict=True)]),
    ]


def _many_streams(work: Path, model: Path, peer: Path, options: argparse.Namespace) -> list[Figure]:
    """G1: 32 streams on a graphics card, against llama-server as it is started without options."""
    with (
        ours(work / "many", model, peer, threads=options.threads, slots=_MANY, gpu=True) as our_side,
        llama_server(work, model, peer, threads=options.threads, defaults=True) as their_side,
    ):
        sides = {"ours": our_side, "llama-server": their_side}
        text = uvloop.run(measure_words(our_side.target, _WARM_UP))
        runs = _pairs(sides, text, options.pairs, partial(independent, streams=_MANY), seed=700_000)
    return [Figure("G1", "ratio", at_least(1.3), runs["rate"])]


def _roofline(side: Side, text: Text, model: Path, work: Path, options: argparse.Namespace) -> list[Figure]:
    """S13: bytes of weights read per second by one stream, as a share of what memory gives in the same minute."""
    shares = []
    for run in range(min(options.pairs, 5)):
        out = work / f"roofline-{run}.json"
        words = ["-m", "appliance.tuning.measure", "roofline", str(out), str(options.threads)]
        subprocess.run([sys.executable, *words], check=True)
        bandwidth = json.loads(out.read_bytes())["bandwidth"]
        rate = uvloop.run(independent(side.target, text, 600_000 + run, streams=1))["rate"]
        shares.append(rate * model.stat().st_size / bandwidth)
    return [Figure("S13.bandwidth", "share", None, shares)]


def _pairs(sides: dict[str, Side], text: Text, pairs: int, scenario: Scenario, *, seed: int) -> Runs:
    """The pairwise ratios of everything the scenario reads, and of CPU time; one run of each side goes before."""
    for side in sides.values():
        uvloop.run(scenario(side.target, text, seed + _WARM_UP))
    ratios: Runs = {}
    for pair, order in enumerate(turns("ours", "llama-server", pairs)):
        found: dict[str, dict[str, float]] = {}
        for name in order:
            before = sides[name].cpu_seconds()
            found[name] = uvloop.run(scenario(sides[name].target, text, seed + pair))
            found[name]["cpu"] = sides[name].cpu_seconds() - before
        for figure, value in found["ours"].items():
            ratios.setdefault(figure, []).append(value / found["llama-server"][figure])
    return ratios


def _engine_alone(model: Path, peer: Path, options: argparse.Namespace) -> list[Figure]:
    """S2: tokens per second of decoding, in one process each."""
    ratios: dict[int, list[float]] = {streams: [] for streams in _ENGINE_STREAMS}
    measures = {"ours": _engine_rates, "peer": _batched_bench_rates}
    for order in turns("ours", "peer", options.pairs):
        rates = {name: measures[name](model, peer, options.threads) for name in order}
        for streams in _ENGINE_STREAMS:
            ratios[streams].append(rates["ours"][streams] / rates["peer"][streams])
    return [Figure(f"S2.{streams}", "ratio", at_least(0.95), runs) for streams, runs in ratios.items()]


def _engine_rates(model: Path, peer: Path, threads: int) -> dict[int, float]:
    argv = [sys.executable, "-m", "benchmarks.engine_speed", str(model), str(threads), *map(str, _ENGINE_STREAMS)]
    output = _output(argv, {"LLAMA_CPP_LIB_PATH": str(peer)})
    return {int(streams): float(rate) for streams, rate in json.loads(output).items()}


def _batched_bench_rates(model: Path, peer: Path, threads: int) -> dict[int, float]:
    argv = [str(peer / "llama-batched-bench"), "-m", str(model), "-c", "8192", "-b", "2048", "-ub", "512"]
    argv += ["-npp", "64", "-ntg", "64", "-npl", ",".join(map(str, _ENGINE_STREAMS)), "--kv-unified"]
    argv += ["-t", str(threads), "-tb", str(threads), "--output-format", "jsonl"]
    lines = [json.loads(line) for line in _output(argv, {}).splitlines() if line.startswith("{")]
    return {int(line["pl"]): float(line["speed_tg"]) for line in lines}


def _output(argv: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(
        argv, env={**os.environ, **SPIN, **environment}, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
