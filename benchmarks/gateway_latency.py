"""S6: what a gateway adds to each event, ours and LiteLLM's proxy on the same fake upstream.

Paced: 16 streams that speak together every 40 ms; an event's time is from the upstream's write to the client's read.
Unpaced: events per second of the gateway's CPU time. Ours works behind TLS, key check and accounting; LiteLLM's proxy
checks a master key on plain HTTP, without a database, logging or TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.comparison import Figure, at_least, at_most
from benchmarks.processes import accepts, cpu_seconds, free_port, running, wait_until
from benchmarks.serving_sides import gateway_before
from benchmarks.sse_load import Target

STREAMS: Final = 16
_PACE: Final = 0.04
_PACED_TOKENS: Final = 100
_UNPACED_TOKENS: Final = {"ours": 6000, "litellm": 400}
"""CPU time is told in hundredths of a second: enough events that it takes some ten of them at least."""
_STAMP: Final = re.compile(rb"\{(\d+)\}")
_LITELLM: Final = Path(__file__).resolve().parent.parent / ".venv-litellm" / "bin" / "litellm"
_START_PATIENCE: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What was read off one run: seconds that events were on their way, and events per CPU second of the gateway."""

    latencies: list[float]
    events_per_cpu_second: float

    def percentile(self, percent: int) -> float:
        """Milliseconds."""
        return 1000 * statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]


def gateway_figures(work: Path, runs: int) -> list[Figure]:
    """Measure both gateways in turns, each paced and unpaced."""
    paced: dict[str, list[Added]] = {"ours": [], "litellm": []}
    unpaced: dict[str, list[Added]] = {"ours": [], "litellm": []}
    for number in range(runs):
        order = ("ours", "litellm") if number % 2 == 0 else ("litellm", "ours")
        for name in order:
            for interval, tokens, found in ((_PACE, _PACED_TOKENS, paced), (0.0, _UNPACED_TOKENS[name], unpaced)):
                folder = work / f"{name}-{number}-{interval}"
                folder.mkdir()
                found[name].append(_measure(name, folder, interval, tokens))
    ours, theirs = paced["ours"], paced["litellm"]
    rate, other = ([run.events_per_cpu_second for run in unpaced[name]] for name in ("ours", "litellm"))
    return [
        Figure("S6.p50", "ms", at_most(1.5), [run.percentile(50) for run in ours]),
        Figure("S6.p99", "ms", at_most(8), [run.percentile(99) for run in ours]),
        Figure("S6.rate", "events/CPU-second", at_least(20_000), rate),
        Figure("S6.litellm.p50", "ms", None, [run.percentile(50) for run in theirs]),
        Figure("S6.litellm.p99", "ms", None, [run.percentile(99) for run in theirs]),
        Figure("S6.litellm.rate", "events/CPU-second", None, other),
    ]


def _measure(name: str, folder: Path, interval: float, tokens: int) -> Added:
    with (_ours if name == "ours" else _litellm)(folder, interval) as (target, cpu):
        uvloop.run(_load(target, 8))  # connections, caches and code are warm
        before = cpu()
        latencies = uvloop.run(_load(target, tokens))
        return Added(latencies=latencies, events_per_cpu_second=len(latencies) / (cpu() - before))


CpuClock = Callable[[], float]
"""CPU seconds of a gateway so far."""


@contextlib.contextmanager
def _ours(folder: Path, interval: float) -> Iterator[tuple[Target, CpuClock]]:
    def worker(socket: Path) -> list[str | Path]:
        return [sys.executable, "-m", "benchmarks.fake_upstream", "engine", socket, str(interval)]

    with gateway_before(folder / "state", worker, digest="0" * 64) as side:
        gateway = side.processes[-1]
        yield side.target, lambda: cpu_seconds(gateway)


@contextlib.contextmanager
def _litellm(folder: Path, interval: float) -> Iterator[tuple[Target, CpuClock]]:
    if not _LITELLM.exists():
        raise SystemExit("LiteLLM is not set up: python3 -m tools.setup_environment --litellm")
    upstream, port, key = free_port(), free_port(), f"sk-{secrets.token_hex(16)}"
    settings = {
        "model_list": [
            {
                "model_name": "bench",
                "litellm_params": {
                    "model": "openai/bench",
                    "api_base": f"http://127.0.0.1:{upstream}/v1",
                    "api_key": "none",
                },
            }
        ],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False},
    }
    (folder / "config.yaml").write_text(json.dumps(settings))  # JSON is YAML
    fake: list[str | Path] = [sys.executable, "-m", "benchmarks.fake_upstream", "openai", str(upstream), str(interval)]
    proxy: list[str | Path] = [_LITELLM, "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (
        running(fake, log=folder / "upstream.log") as source,
        running(proxy, log=folder / "litellm.log", environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True"}) as server,
    ):
        wait_until(lambda: accepts(upstream), source, what="the fake upstream")
        wait_until(lambda: accepts(port), server, what="LiteLLM's proxy", patience=_START_PATIENCE)
        target = Target(port=port, model="bench", headers={"Authorization": f"Bearer {key}"})
        yield target, lambda: cpu_seconds(server)


async def _load(target: Target, tokens: int) -> list[float]:
    """Seconds that each event of all streams was on its way."""
    found = await asyncio.gather(*(_stream(target, tokens) for _ in range(STREAMS)))
    return [seconds for one in found for seconds in one]


async def _stream(target: Target, tokens: int) -> list[float]:
    document = {
        "model": target.model,
        "messages": [{"role": "user", "content": "Speak."}],
        "max_tokens": tokens,
        "stream": True,
    }
    body = json.dumps(document).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {target.host}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
    reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls)
    try:
        writer.write(f"{head}\r\n".encode() + body)
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{status!r} {await reader.read(2000)!r}")
        seconds: list[float] = []
        while line := await reader.readline():
            now = time.monotonic_ns()
            seconds += [(now - int(stamp)) / 1e9 for stamp in _STAMP.findall(line)]
        if len(seconds) != tokens:
            raise RuntimeError(f"{len(seconds)} of {tokens} events came.")
        return seconds
    finally:
        writer.close()
