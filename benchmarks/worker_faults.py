"""S12 and S14: engines that die under load, and what their clients, and those of other engines, see of it.

`abort_figures` runs a whole appliance with two deployments and makes the engine of one abort(), as a failed assertion
in llama.cpp does. `kill_figures` kills one engine at random moments and starts it again at once, as the daemon does,
but without its pauses between quick deaths; then it looks whether anything was left behind or counted wrongly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from appliance.daemon.marks import find
from appliance.engine.frames import State
from appliance.gateway.engine_metrics import states
from appliance.gateway.observe import ACCESS_FILE, AccessLine
from appliance.kernel.canonical import sha256_file
from appliance.kernel.paths import StatePaths
from benchmarks.comparison import Figure, at_least, at_most
from benchmarks.faults_load import Attempt, Streams, slowest_end
from benchmarks.processes import free_port, running, wait_until
from benchmarks.serving_scenarios import measure_words
from benchmarks.serving_sides import SPIN, Side, ask_privately, engine, gateway_before, gateway_state
from benchmarks.sse_load import Target, run_load

STREAMS: Final = 16
WITHIN: Final = 5.0
"""Seconds in which every request must know its fate."""
ABORTS: Final = 3
ABORT_STREAMS: Final = 6
_CALM: Final = 3.0
_LAST: Final = 32
_INTRAMUROS: Final = (sys.executable, "-I", "-m", "appliance.cli.main")


def kill_figures(work: Path, model: Path, *, threads: int, kills: int = 50, seed: int = 14) -> list[Figure]:
    """S14: kill -9 of the engine at random moments under load."""
    state, digest = work / "kills", sha256_file(model)

    def worker(socket: Path) -> list[str | Path]:
        return engine(model, digest, socket, threads=threads, slots=STREAMS)

    with gateway_before(state, worker, digest=digest, environment=SPIN) as side, contextlib.ExitStack() as stack:
        paths = StatePaths(state)
        argv = worker(paths.worker_socket(1))
        return asyncio.run(_Kills(side, paths, argv, stack, random.Random(seed)).run(kills))


class _Kills:
    """One gateway, and one engine after another on the same socket."""

    def __init__(
        self, side: Side, paths: StatePaths, argv: list[str | Path], stack: contextlib.ExitStack, dice: random.Random
    ) -> None:
        self._side = side
        self._paths = paths
        self._argv = argv
        self._stack = stack
        self._dice = dice
        self._engine = side.processes[0]

    async def run(self, kills: int) -> list[Figure]:
        target = self._side.target
        streams = Streams(target, await measure_words(target, 0), STREAMS, seed=self._dice.randrange(1 << 30))
        streams.start()
        faults, hit = [], 0
        for _ in range(kills):
            await asyncio.sleep(self._dice.uniform(0.0, 1.5))
            hit += streams.under_way > 0
            faults.append(time.perf_counter())
            self._engine.kill()
            self._engine.wait()
            await asyncio.to_thread(self._start_again)
        await streams.stop()
        left = await self._left_behind()
        last = await self._last_load(target, streams)
        ends = streams.ends()
        _tell("S14", ends, streams.attempts)
        return [
            Figure("S14.kills", "kills under load", at_least(kills), [hit]),
            Figure("S14.answered", "requests", at_least(kills), [ends["answered"]]),
            Figure("S14.retryable", "requests", None, [ends["retryable"]]),
            Figure("S14.lost", "requests", at_most(0), [ends["lost"]]),
            Figure("S14.bad_news", "s", at_most(WITHIN), [slowest_end(streams.attempts, faults)]),
            Figure("S14.left", "requests and cells", at_most(0), [left]),
            Figure("S14.miscounted", "requests", at_most(0), [last]),
        ]

    def _start_again(self) -> None:
        log = self._paths.logs / "engine.log"
        self._engine = self._stack.enter_context(running(self._argv, log=log, environment=SPIN))
        wait_until(lambda: _listens(self._paths.worker_socket(1)), self._engine, what="the engine")

    async def _left_behind(self) -> int:
        """What gateway and engine still hold of requests that ended: requests, slots and cells."""
        deadline, left = time.monotonic() + WITHIN, 1
        while left and time.monotonic() < deadline:
            gateway, state = gateway_state(self._paths), await self._state()
            if gateway is not None and state is not None:
                held = gateway.requests + sum(revision.active for revision in gateway.revisions.values())
                left = held + state.active + state.waiting + state.cells - state.free_cells
            await asyncio.sleep(0.05)
        return left

    async def _last_load(self, target: Target, streams: Streams) -> int:
        """Ask a known number of requests, and compare what client, gateway, access log and engine have counted."""
        before = await self._state()
        prompts = [streams.text.of(self._dice, 64) for _ in range(_LAST)]
        await run_load(target, prompts, streams=STREAMS, max_tokens=8)
        after = await self._state()
        if before is None or after is None:
            return _LAST
        ends = streams.ends()
        answered = ends["answered"] + _LAST + 1  # and the one that measured words
        told = answered + ends["retryable"]
        deadline, wrong = time.monotonic() + WITHIN, 1
        while wrong and time.monotonic() < deadline:  # a line is written after the answer has gone out
            lines = _access_lines(self._paths)
            well = sum(line.status == 200 and not line.code for line in lines)
            counted = _requests_total(ask_privately(self._paths, "/metrics"))
            wrong = abs(well - answered) + abs(len(lines) - told) + abs(counted - told)
            await asyncio.sleep(0.05)
        return wrong + abs(after.finished - before.finished - _LAST) + after.failed

    async def _state(self) -> State | None:
        return (await states({"bench": self._paths.worker_socket(1)}))["bench"]


def abort_figures(work: Path, model: Path, *, seed: int = 15) -> list[Figure]:
    """S12: abort() of one engine of an appliance while two are under load."""
    with _appliance(work / "abort", model) as (paths, one, other):
        return asyncio.run(_abort(paths, one, other, seed))


async def _abort(paths: StatePaths, one: Target, other: Target, seed: int) -> list[Figure]:
    text = await measure_words(one, 0)
    hit, calm = (Streams(target, text, ABORT_STREAMS, seed=seed + at) for at, target in enumerate((one, other)))
    hit.start()
    calm.start()
    faults, back, gaps = [], [], []
    for _ in range(ABORTS):
        await asyncio.sleep(_CALM)
        fault = time.perf_counter()
        os.kill(_pid(paths, "engine-1"), signal.SIGABRT)
        faults.append(fault)
        while not any(attempt.end == "answered" and attempt.begun > fault for attempt in hit.attempts):
            await asyncio.sleep(0.05)
        returned = min(a.ended for a in hit.attempts if a.end == "answered" and a.begun > fault)
        back.append(returned - fault)
        answers = [attempt.answer for attempt in calm.attempts if attempt.answer is not None]
        gaps.append(max((answer.longest_gap(fault, returned) for answer in answers), default=0.0))
    await hit.stop()
    await calm.stop()
    ends = hit.ends()
    _tell("S12.abort", ends, hit.attempts)
    return [
        Figure("S12.abort.answered", "requests", at_least(1), [ends["answered"]]),
        Figure("S12.abort.retryable", "requests", at_least(1), [ends["retryable"]]),
        Figure("S12.abort.lost", "requests", at_most(0), [ends["lost"]]),
        Figure("S12.abort.bad_news", "s", at_most(WITHIN), [slowest_end(hit.attempts, faults)]),
        Figure("S12.abort.back", "s", None, back),
        Figure("S12.abort.others", "requests not answered", at_most(0), [len(calm.attempts) - calm.ends()["answered"]]),
        Figure("S12.abort.others_gap", "s", None, gaps),
    ]


@contextlib.contextmanager
def _appliance(state: Path, model: Path) -> Iterator[tuple[StatePaths, Target, Target]]:
    """An appliance that serves the model twice, as `one` (the first engine) and as `other`."""
    port = free_port()

    def verb(*words: str) -> Any:
        argv = [*_INTRAMUROS, *words, "--json", "--state", str(state)]
        finished = subprocess.run(argv, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise RuntimeError(f"`intramuros {' '.join(words)}` failed: {finished.stderr[-1000:]}")
        return json.loads(finished.stdout)

    verb("up", "--port", str(port))
    try:
        secret = verb("key", "create", "bench")["secret"]  # before the deployments: who waits for those, waits for it
        verb("model", "import", str(model), "--name", "bench")
        for name in ("one", "other"):
            verb("deploy", "bench@1", "--as", name, "--override", "a benchmark")
        paths = StatePaths(state)
        tls = ssl.create_default_context(cafile=paths.authority_certificate)
        headers = {"Authorization": f"Bearer {secret}"}
        one, other = (Target(port=port, model=name, tls=tls, headers=headers) for name in ("one", "other"))
        yield paths, one, other
    finally:
        verb("down")


def _pid(paths: StatePaths, unit: str) -> int:
    return next(found.identity.pid for found in find(paths.root) if found.unit == unit)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _access_lines(paths: StatePaths) -> list[AccessLine]:
    text = (paths.logs / ACCESS_FILE).read_bytes()
    return [msgspec.json.decode(line, type=AccessLine) for line in text.splitlines()]


def _requests_total(exposition: bytes) -> int:
    families = text_string_to_metric_families(exposition.decode())
    samples = (sample for family in families for sample in family.samples)
    return round(sum(sample.value for sample in samples if sample.name == "intramuros_gateway_requests_total"))


def _tell(what: str, ends: Any, attempts: list[Attempt]) -> None:
    """Say on standard error how requests ended, and why some were lost."""
    print(f"{what}: {dict(ends)}", file=sys.stderr)
    for attempt in attempts:
        if attempt.end == "lost":
            print(f"{what}: lost after {attempt.ended - attempt.begun:.2f} s: {attempt.why}", file=sys.stderr)
