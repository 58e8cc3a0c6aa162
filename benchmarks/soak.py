"""Does memory stay flat: so many minutes of 16 streams, the memory of gateway and engine, and the slope of its line.

`make bench-soak MINUTES=60` writes benchmarks/results/soak.json. The first fifth of the time fills caches and does not
count. The slope is a least-squares fit in MiB per hour with its 95 % interval; the interval counts only as many samples
as are independent of the one before (by their lag-1 correlation). A short soak has a wide one: read it, not the slope.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil
import uvloop

from appliance.kernel.canonical import sha256_file
from benchmarks.comparison import Figure, at_most, write_figures
from benchmarks.faults_load import Streams
from benchmarks.serving_scenarios import measure_words
from benchmarks.serving_sides import SPIN, Side, engine, gateway_before
from tools.build_seed_model import provide

STREAMS: Final = 16
EVERY: Final = 1.0
WARM_UP: Final = 0.2
TIER: Final = 16
"""MiB of the cache's second tier: small, so that it is full before the warm-up ends."""
_WIDTH: Final = 1.96
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A slope per second, and the bounds of its 95 % interval."""

    slope: float
    low: float
    high: float


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a line by least squares. Raises ValueError for fewer than ten samples."""
    if len(times) < 10:
        raise ValueError(f"{len(times)} samples are too few for a slope.")
    slope, intercept = statistics.linear_regression(times, values)
    rest = [value - intercept - slope * at for at, value in zip(times, values, strict=True)]
    squares = sum(one * one for one in rest)
    if squares == 0:
        return Trend(slope=slope, low=slope, high=slope)
    correlation = max(0.0, sum(one * other for one, other in pairwise(rest)) / squares)
    independent = max(3.0, len(rest) * (1 - correlation) / (1 + correlation))
    middle = statistics.fmean(times)
    spread = sum((at - middle) ** 2 for at in times) * independent / len(times)
    error = _WIDTH * math.sqrt(squares / len(rest) * independent / (independent - 2) / spread)
    return Trend(slope=slope, low=slope - error, high=slope + error)


def main(arguments: list[str]) -> int:
    """Soak and write benchmarks/results/soak.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--model", type=Path, help="GGUF file; default: the model that a bundle carries")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    model = options.model or provide()
    digest = sha256_file(model)

    def worker(socket: Path) -> list[str | Path]:
        argv = engine(model, digest, socket, threads=options.threads, slots=STREAMS)
        return [*argv, "--cache-ram", str(TIER)]

    with (
        tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name,
        gateway_before(Path(name) / "state", worker, digest=digest, environment=SPIN) as side,
    ):
        figures = uvloop.run(_soak(side, options.minutes * 60))
    print(write_figures("soak", figures).read_text(), end="")
    return 0


async def _soak(side: Side, seconds: float) -> list[Figure]:
    watched = {"engine": psutil.Process(side.processes[0].pid), "gateway": psutil.Process(side.processes[-1].pid)}
    sizes: dict[str, list[float]] = {name: [] for name in watched}
    times: list[float] = []
    streams = Streams(side.target, await measure_words(side.target, 0), STREAMS, seed=1)
    streams.start()
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < seconds:
        if now >= seconds * WARM_UP:
            times.append(now)
            for name, process in watched.items():
                sizes[name].append(process.memory_info().rss / (1 << 20))
        await asyncio.sleep(EVERY)
    await streams.stop()
    for attempt in streams.attempts:
        if attempt.end != "answered":
            minute = (attempt.ended - streams.attempts[0].begun) / 60
            print(f"minute {minute:.1f}: {attempt.end} after {attempt.ended - attempt.begun:.1f} s: {attempt.why}")
    ends = streams.ends()
    figures = [
        Figure("S15.minutes", "min", None, [seconds / 60]),
        Figure("S15.answered", "requests", None, [ends["answered"]]),
        Figure("S15.not_answered", "requests", at_most(0), [len(streams.attempts) - ends["answered"]]),
    ]
    for name, series in sizes.items():
        line = trend(times, series)
        figures += [
            Figure(f"S15.{name}", "MiB/hour", None, [line.slope * _HOUR]),
            Figure(f"S15.{name}.low", "MiB/hour", None, [line.low * _HOUR]),
            Figure(f"S15.{name}.high", "MiB/hour", None, [line.high * _HOUR]),
            Figure(f"S15.{name}.resident", "MiB", None, series[-1:]),
        ]
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
