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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.comparison import Figure, at_least, at_most, keep_figures, ratios, turns
from benchmarks.drafts import draft_figures
from benchmarks.gateway_latency import gateway_figures
from benchmarks.processes import running
from benchmarks.random_model import write_gguf
from benchmarks.roofline import Roof, measured_roof
from benchmarks.schema_suite import suite_figures
from benchmarks.serving_faults import fault_figures
from benchmarks.serving_scenarios import (
    Seen,
    Text,
    busy_document,
    chats,
    goodput,
    independent,
    long_prompt,
    measure_words,
    shared_prompt,
)
from benchmarks.serving_sides import SPIN, Side, llama_server, ours
from benchmarks.sse_load import Target, run_load
from tools.build_llama_server import peer_directory

_STREAMS: Final = (1, 4, 8, 16)
CHAIN: Final = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
_WARM_UP: Final = 10**6
_ENGINE_STREAMS: Final = (1, 8, 16)
_MANY: Final = 32

Scenario = Callable[[Target, Text, int], Coroutine[Any, Any, Seen]]
Runs = dict[str, list[float]]
"""name of a figure -> ratio of each pair, but `roofline`: our own share in each"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Both programs as they run, ours first, and how they are asked."""

    sides: dict[str, Side]
    text: Text
    pairs: int
    roof: Callable[[], Roof] | None
    """measures it now; None where the arithmetic is not the processor's"""

    def compare(self, scenario: Scenario, *, seed: int, apart: int = 0) -> Runs:
        """The pairwise ratios of everything the scenario reads and of CPU time per token, and our roofline share.

        One run of each side goes before. `apart` sets the sides' prompts apart where one engine is both.
        """
        roof = self.roof() if self.roof else None
        first, second = self.sides
        for number, side in enumerate(self.sides.values()):
            uvloop.run(scenario(side.target, self.text, seed + _WARM_UP + apart * number))
        runs: Runs = {}
        for pair, order in enumerate(turns(first, second, self.pairs)):
            found: dict[str, dict[str, float]] = {}
            for name in order:
                side = self.sides[name]
                before = side.cpu_seconds()
                own = seed + pair + apart * (name == second)
                seen = uvloop.run(scenario(side.target, self.text, own))
                found[name] = {**seen.figures, "cpu": (side.cpu_seconds() - before) / seen.tokens}
                if name == first and roof:
                    share = roof.share(seen.answers, streams=seen.streams, seconds=seen.seconds)
                    runs.setdefault("roofline", []).append(share)
            for figure, value in found[first].items():
                runs.setdefault(figure, []).append(value / found[second][figure])
        return runs


def main(arguments: list[str]) -> int:
    """Measure and put what was found into benchmarks/results/serving.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--model", type=Path, help="GGUF file; default: a random Llama of 0.1 billion parameters, Q8_0")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--scenarios", nargs="+", default=list(ALL), choices=ALL, metavar="SCENARIO")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kills", type=int, default=50, help="how often S14 kills the engine")
    parser.add_argument("--cuda", action="store_true", help="both sides on the graphics card, and 32 streams (G1)")
    parser.add_argument("--backend-sampling", action="store_true", help="both sides draw where the model is computed")
    options = parser.parse_args(arguments)
    # Written after each scenario, so that an interrupted measurement keeps what it has.
    keep = partial(keep_figures, "serving-gpu" if options.cuda else "serving")
    with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name:
        work = Path(name)
        model = options.model or write_gguf(work / "model")
        peer = peer_directory(cuda=options.cuda)
        roof = partial(measured_roof, model, work / "roofline.json", threads=options.threads)
        drawing = {"threads": options.threads, "backend_sampling": options.backend_sampling}
        if options.cuda:
            keep(_many_streams(work, model, peer, options))
        with (
            ours(work / "state", model, peer, gpu=options.cuda, **drawing) as our_side,
            llama_server(work, model, peer, **drawing) as their_side,
        ):
            bench = Bench(
                sides={"ours": our_side, "llama-server": their_side},
                text=uvloop.run(measure_words(our_side.target, _WARM_UP)),
                pairs=options.pairs,
                roof=None if options.cuda else roof,
            )
            for scenario in options.scenarios:
                if scenario in _SCENARIOS:
                    keep(_SCENARIOS[scenario](bench))
        if "S2" in options.scenarios:
            keep(_engine_alone(model, peer, roof(), options))
        if "S6" in options.scenarios:
            keep(gateway_figures(work, options.pairs))
        if "S8" in options.scenarios:
            keep(_busy_cores(work, model, peer, roof(), options))
        if "S16" in options.scenarios:
            keep(draft_figures(work, threads=options.threads, pairs=options.pairs))
        keep(fault_figures(work, model, threads=options.threads, kills=options.kills, scenarios=options.scenarios))
    return 0


def _independent(bench: Bench) -> list[Figure]:
    """Independent prompts: greedy, and with llama-server's default chain of samplers."""
    figures, rates, costs = [], [], []
    for number, (chain, settings) in enumerate((("greedy", {}), ("chain", CHAIN))):
        asked = replace(bench, sides={name: _asking(side, settings) for name, side in bench.sides.items()})
        for streams in _STREAMS:
            seed = 50_000 * number + 1000 * streams  # nobody has cached a prompt of the other part
            runs = asked.compare(partial(independent, streams=streams), seed=seed)
            name = f"S1.{chain}.{streams}"
            figures.append(Figure(name, "ratio", at_least(0.95), runs["rate"]))
            rates.append(figures[-1].value)
            costs += runs["cpu"]
            figures += _roofline(name, runs)
    mean = statistics.geometric_mean(rates)
    return [
        Figure("S1", "ratio", at_least(1.0), [mean]),
        *figures,
        Figure("S1.cpu", "ratio", at_most(1.05), costs),
    ]


def _asking(side: Side, settings: dict[str, Any]) -> Side:
    return replace(side, target=replace(side.target, extra={**side.target.extra, **settings}))


def _shared_prompt(bench: Bench) -> list[Figure]:
    runs = bench.compare(shared_prompt, seed=100_000)
    return [
        Figure("S3.cold.ttft", "ratio", at_most(0.25), runs["cold_first"]),
        Figure("S3.cold.rate", "ratio", at_least(3.0), runs["cold_rate"]),
        Figure("S3.warm.ttft", "ratio", at_most(0.08), runs["warm_first"]),
        Figure("S3.warm.rate", "ratio", at_least(5.0), runs["warm_rate"]),
        *_beside("S3", runs),
    ]


def _busy_document(bench: Bench) -> list[Figure]:
    runs = bench.compare(busy_document, seed=200_000)
    return [Figure("S4.ttft", "ratio", at_most(0.1), runs["first"]), *_beside("S4", runs)]


def _long_prompt(bench: Bench) -> list[Figure]:
    runs = bench.compare(long_prompt, seed=300_000)
    return [
        Figure("S5.gap", "ratio", at_most(0.4), runs["gap"]),
        Figure("S5.ttft", "ratio", at_most(1.5), runs["first"]),
        *_beside("S5", runs),
    ]


def _goodput(bench: Bench) -> list[Figure]:
    runs = bench.compare(goodput, seed=400_000)
    return [Figure("S11.goodput", "ratio", at_least(1.5), runs["goodput"]), *_beside("S11", runs)]


def _in_a_schema(bench: Bench) -> list[Figure]:
    """S7: the same engine with a schema and without one; one that does not let an answer end before its last token."""
    ours, _ = bench.sides.values()
    form = {
        "ignore_eos": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": _SCHEMA}},
    }
    runs = replace(bench, sides={"schema": _asking(ours, form), "free": ours}).compare(chats, seed=500_000, apart=1000)
    return [Figure("S7.rate", "ratio", at_least(0.9), runs["rate"]), *_beside("S7", runs), *suite_figures(ours)]


def _one_stream(bench: Bench) -> list[Figure]:
    """S13: bytes of weights read per second by one stream, as a share of what memory gives in the same minute."""
    if bench.roof is None:
        return []
    shares = []
    for run in range(bench.pairs):
        best = bench.roof().decoding_rate(1)
        seen = uvloop.run(independent(bench.sides["ours"].target, bench.text, 600_000 + run, streams=1))
        shares.append(seen.figures["rate"] / best)
    return [Figure("S13.roofline", "share", None, shares)]


def _beside(scenario: str, runs: Runs) -> list[Figure]:
    """What is told beside a scenario's figures: processor time per token, and our share of the roofline."""
    return [Figure(f"{scenario}.cpu", "ratio", None, runs["cpu"]), *_roofline(scenario, runs)]


def _roofline(name: str, runs: Runs) -> list[Figure]:
    return [Figure(f"{name}.roofline", "share", None, runs["roofline"])] if "roofline" in runs else []


_SCENARIOS: Final = {
    "S1": _independent,
    "S3": _shared_prompt,
    "S4": _busy_document,
    "S5": _long_prompt,
    "S7": _in_a_schema,
    "S11": _goodput,
    "S13": _one_stream,
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


def _busy_cores(work: Path, model: Path, peer: Path, roof: Roof, options: argparse.Namespace) -> list[Figure]:
    """S8: as many busy loops as cores beside the engine, as it is started against libgomp's own waiting.

    Half of what it does alone is all that a fair scheduler can give it: that is the ceiling of the ratio.
    """
    environments = {"alone": SPIN, "ours": SPIN, "default": {}}
    rates: dict[str, list[float]] = {name: [] for name in environments}
    costs: dict[str, list[float]] = {name: [] for name in environments}
    for pair, order in enumerate(turns("ours", "default", options.pairs)):
        for name in ("alone", *order):
            with contextlib.ExitStack() as stack:
                for number in range(0 if name == "alone" else options.threads):
                    stack.enter_context(running([sys.executable, "-c", _HOG], log=work / f"hog-{number}.log"))
                state, environment = work / f"busy-{name}-{pair}", environments[name]
                side = stack.enter_context(ours(state, model, peer, threads=options.threads, environment=environment))
                before = side.cpu_seconds()
                load = uvloop.run(run_load(side.target, ["river stone"], streams=1, max_tokens=32))
                rates[name].append(load.tokens_per_second)
                costs[name].append(side.cpu_seconds() - before)
    return [
        Figure("S8", "ratio", at_least(10), ratios(rates["ours"], rates["default"])),
        Figure("S8.ceiling", "ratio", None, [one / 2 for one in ratios(rates["alone"], rates["default"])]),
        Figure("S8.cpu", "ratio", None, ratios(costs["ours"], costs["default"])),
        Figure("S8.roofline", "share", None, [rate / roof.decoding_rate(1) for rate in rates["ours"]]),
    ]


def _many_streams(work: Path, model: Path, peer: Path, options: argparse.Namespace) -> list[Figure]:
    """G1: 32 streams on a graphics card, against llama-server as it is started without options."""
    with (
        ours(
            work / "many",
            model,
            peer,
            threads=options.threads,
            slots=_MANY,
            gpu=True,
            backend_sampling=options.backend_sampling,
        ) as our_side,
        llama_server(work, model, peer, threads=options.threads, defaults=True) as their_side,
    ):
        bench = Bench(
            sides={"ours": our_side, "llama-server": their_side},
            text=uvloop.run(measure_words(our_side.target, _WARM_UP)),
            pairs=options.pairs,
            roof=None,
        )
        runs = bench.compare(partial(independent, streams=_MANY), seed=700_000)
    return [Figure("G1", "ratio", at_least(1.3), runs["rate"]), Figure("G1.cpu", "ratio", None, runs["cpu"])]


def _engine_alone(model: Path, peer: Path, roof: Roof, options: argparse.Namespace) -> list[Figure]:
    """S2: tokens per second of decoding, in one process each."""
    rates: dict[str, list[dict[int, float]]] = {"ours": [], "peer": []}
    measures = {"ours": _engine_rates, "peer": _batched_bench_rates}
    for order in turns("ours", "peer", options.pairs):
        for name in order:
            rates[name].append(measures[name](model, peer, options.threads))
    figures = []
    for streams in _ENGINE_STREAMS:
        mine, other = ([run[streams] for run in rates[name]] for name in ("ours", "peer"))
        best = roof.decoding_rate(streams)
        figures += [
            Figure(f"S2.{streams}", "ratio", at_least(0.95), ratios(mine, other)),
            Figure(f"S2.{streams}.roofline", "share", None, [rate / best for rate in mine]),
        ]
    return figures


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
