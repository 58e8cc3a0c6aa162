"""S16: what a draft model brings, and what one that is never right costs: the engine with it against the same without.

    python -m benchmarks.drafts [--pairs N] [--threads N]

One stream, greedy, through the gateway; ratios of tokens per second and of CPU seconds per token. The model has 0.3
billion random parameters in Q8_0. The draft that fits is its first two layers, and the other layers whisper, so that
it is right as often as S16.right tells: by construction, not because it was trained to. So the figures tell what
speculation brings at that rate on this machine, and nothing of any real pair of models.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from appliance.kernel.canonical import sha256_file
from appliance.kernel.paths import StatePaths
from benchmarks.comparison import Figure, at_least, at_most, keep_figures, ratios
from benchmarks.random_model import write_with_drafts
from benchmarks.roofline import measured_roof
from benchmarks.serving_scenarios import independent, measure_words
from benchmarks.serving_sides import SPIN, Side, ask_privately, engine, gateway_before

_SLOTS: Final = 8
_CONTEXT: Final = 4096
_GOOD, _POOR, _WITHOUT = "good", "poor", "without"


def main(arguments: list[str]) -> int:
    """Measure and put what was found into benchmarks/results/serving.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.drafts", description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name:
        figures = draft_figures(Path(name), threads=options.threads, pairs=options.pairs)
    keep_figures("serving", figures)
    for figure in figures:
        print(figure.document())
    return 0


def draft_figures(work: Path, *, threads: int, pairs: int) -> list[Figure]:
    """Three engines at once, asked in turns: with a good draft, with a poor one, without one."""
    models = work / "drafts"
    models.mkdir()
    model, draft, stranger = write_with_drafts(models)
    rates: dict[str, list[float]] = {name: [] for name in (_GOOD, _POOR, _WITHOUT)}
    costs: dict[str, list[float]] = {name: [] for name in rates}
    with contextlib.ExitStack() as stack:
        sides = {
            name: stack.enter_context(_side(work / f"draft-{name}", model, own, threads))
            for name, own in ((_GOOD, draft), (_POOR, stranger), (_WITHOUT, None))
        }
        text = uvloop.run(measure_words(sides[_WITHOUT].target, 1))
        best = measured_roof(model, work / "roofline.json", threads=threads).decoding_rate(1)
        for pair in range(pairs + 1):
            for name in sorted(sides, reverse=bool(pair % 2)):
                before = sides[name].cpu_seconds()
                found = uvloop.run(independent(sides[name].target, text, 800_000 + pair, streams=1))
                if pair:  # the first turn warms up, and lets the poor draft be found out
                    rates[name].append(found.figures["rate"])
                    costs[name].append(sides[name].cpu_seconds() - before)
        right = _share_right(work / f"draft-{_GOOD}")

    without, cost = rates[_WITHOUT], costs[_WITHOUT]
    return [
        Figure("S16.right", "share", None, [right]),
        Figure("S16.rate", "ratio", at_least(1.1), ratios(rates[_GOOD], without)),
        Figure("S16.cpu", "ratio", at_most(1.0), ratios(costs[_GOOD], cost)),
        Figure("S16.roofline", "share", None, [rate / best for rate in rates[_GOOD]]),
        Figure("S16.poor.rate", "ratio", at_least(0.95), ratios(rates[_POOR], without)),
        Figure("S16.poor.cpu", "ratio", at_most(1.05), ratios(costs[_POOR], cost)),
    ]


def _side(state: Path, model: Path, draft: Path | None, threads: int) -> contextlib.AbstractContextManager[Side]:
    digest = sha256_file(model)

    def worker(socket: Path) -> list[str | Path]:
        return engine(model, digest, socket, threads=threads, slots=_SLOTS, context=_CONTEXT, draft=draft)

    return gateway_before(state, worker, digest=digest, environment=SPIN)


def _share_right(state: Path) -> float:
    """How many of the draft model's guesses were right, as the gateway tells it."""
    metrics = ask_privately(StatePaths(state), "/metrics").decode()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.labels.get("source") == "draft"
    }
    drafted = found["intramuros_engine_drafted_tokens_total"]
    return found["intramuros_engine_accepted_tokens_total"] / drafted if drafted else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
