"""Gateway and engine against llama-server: the same libllama, model, prompts and client, in turns.

Ours is measured as it is used, behind TLS, key check and accounting; the peer answers plain HTTP. Reported are tokens
per second and CPU seconds per token at 1 and 8 streams, each as the median of pairwise ratios ours / theirs.
Prompts differ from the first token on, so that neither side gains from its prefix cache.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.access.keys import new_key
from appliance.access.tls import ensure_leaf
from appliance.gateway.state import GatewayState
from appliance.gateway.table import KeyEntry, Listen, Route, RoutingTable, write_table
from appliance.kernel.canonical import sha256_file
from appliance.kernel.paths import StatePaths
from benchmarks.comparison import median_ratio, spread, turns, write_result
from benchmarks.processes import accepts, cpu_seconds, free_port, running, wait_until
from benchmarks.random_model import write_gguf
from benchmarks.sse_load import Load, Target, run_load
from tools.build_llama_server import peer_directory

_SLOTS = 16
_CONTEXT = 8192
_WARM_UP = 10**6
_SPIN = {"GOMP_SPINCOUNT": "1000"}
"""The same for both sides: it decides more than anything else how a shared machine feels."""

_WORDS = ("river", "stone", "cloud", "window", "paper", "garden", "light", "sound", "winter", "letter", "bridge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One program under measurement: where to send requests, and whose CPU time counts."""

    target: Target
    processes: tuple[subprocess.Popen[bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load on one side."""

    load: Load
    cpu_per_token: float


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/serving.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--model", type=Path, help="GGUF file; default: a random Llama of 0.1 billion parameters, Q8_0")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, default=2, help="requests per stream and run")
    parser.add_argument("--idle-cells", type=int, help="passed to our engine")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name:
        work = Path(name)
        model = options.model or write_gguf(work / "model")
        peer = peer_directory()
        with (
            _ours(work / "state", model, peer, options) as ours,
            _peer(work, model, peer, options.threads) as its,
        ):
            figures = {str(streams): _compare(ours, its, streams, options) for streams in options.streams}
    path = write_result(
        "serving",
        {
            "model": model.name,
            "threads": options.threads,
            "pairs": options.pairs,
            "max_tokens": options.max_tokens,
            "streams": figures,
        },
    )
    print(path.read_text(), end="")
    return 0


def _compare(ours: Side, its: Side, streams: int, options: argparse.Namespace) -> dict[str, Any]:
    sides = {"ours": ours, "llama-server": its}
    for side in sides.values():
        _measure(side, seed=_WARM_UP + streams, streams=streams, requests=1, max_tokens=8)
    found: dict[str, list[Measured]] = {name: [] for name in sides}
    for pair, order in enumerate(turns("ours", "llama-server", options.pairs)):
        for name in order:
            found[name].append(
                _measure(
                    sides[name],
                    seed=streams * 1000 + pair,
                    streams=streams,
                    requests=options.requests,
                    max_tokens=options.max_tokens,
                )
            )
    rates = {name: [run.load.tokens_per_second for run in runs] for name, runs in found.items()}
    costs = {name: [run.cpu_per_token for run in runs] for name, runs in found.items()}
    firsts = {name: [answer.first for run in runs for answer in run.load.answers] for name, runs in found.items()}
    return {
        "tokens_per_second_ratio": round(median_ratio(rates["ours"], rates["llama-server"]), 3),
        "cpu_per_token_ratio": round(median_ratio(costs["ours"], costs["llama-server"]), 3),
        "tokens_per_second": {name: spread(values) for name, values in rates.items()},
        "cpu_seconds_per_token": {name: spread(values) for name, values in costs.items()},
        "seconds_to_first_event": {name: spread(values) for name, values in firsts.items()},
    }


def _measure(side: Side, *, seed: int, streams: int, requests: int, max_tokens: int) -> Measured:
    before = cpu_seconds(*side.processes)
    load = asyncio.run(
        run_load(side.target, _prompts(seed, streams * requests), streams=streams, max_tokens=max_tokens)
    )
    return Measured(load=load, cpu_per_token=(cpu_seconds(*side.processes) - before) / load.tokens)


def _prompts(seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    return [f"{chance.randrange(10**9)} " + " ".join(chance.choices(_WORDS, k=40)) for _ in range(count)]


@contextlib.contextmanager
def _ours(state: Path, model: Path, libraries: Path, options: argparse.Namespace) -> Iterator[Side]:
    paths = StatePaths(state)
    paths.run.mkdir(parents=True, mode=0o700)
    paths.logs.mkdir(mode=0o700)
    ensure_leaf(paths, ())
    key = new_key()
    port, endpoint, digest = free_port(), paths.worker_socket(1), sha256_file(model)
    write_table(
        paths.gateway_table,
        RoutingTable(
            listen=Listen(port=port, certificate=str(paths.leaf_certificate), key=str(paths.leaf_key)),
            routes={"bench": Route(revision=1, socket=str(endpoint), model_ref="bench@1", digest=digest, created=0)},
            keys=(KeyEntry(id=key.id, hash=key.hash, name="bench"),),
        ),
    )
    worker: list[str | Path] = [
        sys.executable,
        "-I",
        "-m",
        "appliance.engine.llama_worker",
        "--model",
        model,
        "--digest",
        digest,
    ]
    worker += ["--socket", endpoint, "--threads", str(options.threads), "--slots", str(_SLOTS)]
    if options.idle_cells is not None:
        worker += ["--idle-cells", str(options.idle_cells)]
    worker += ["--context", str(_CONTEXT), "--name", "bench@1"]
    gate: list[str | Path] = [sys.executable, "-I", "-m", "appliance.gateway.main", "--state", state]
    environment = {**_SPIN, "LLAMA_CPP_LIB_PATH": str(libraries)}
    with (
        running(worker, log=paths.logs / "engine.log", environment=environment) as engine,
        running(gate, log=paths.logs / "gateway.log") as gateway,
    ):
        wait_until(lambda: endpoint.exists(), engine, what="the engine")
        wait_until(lambda: _serves(paths), engine, gateway, what="the gateway")
        target = Target(
            port=port,
            model="bench",
            tls=ssl.create_default_context(cafile=paths.authority_certificate),
            headers={"Authorization": f"Bearer {key.secret}"},
        )
        yield Side(target=target, processes=(engine, gateway))


@contextlib.contextmanager
def _peer(work: Path, model: Path, peer: Path, threads: int) -> Iterator[Side]:
    port = free_port()
    argv: list[str | Path] = [peer / "llama-server", "--model", model, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--threads", str(threads), "--threads-batch", str(threads), "--ctx-size", str(_CONTEXT)]
    argv += ["--parallel", str(_SLOTS), "--kv-unified", "--batch-size", "2048", "--ubatch-size", "512"]
    with running(argv, log=work / "llama-server.log", environment=_SPIN) as server:
        wait_until(lambda: accepts(port) and _healthy(port), server, what="llama-server")
        target = Target(port=port, model="bench", extra={"cache_prompt": False})
        yield Side(target=target, processes=(server,))


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def _serves(paths: StatePaths) -> bool:
    """Ask the gateway's private side whether it listens."""
    with (
        contextlib.suppress(OSError, http.client.HTTPException, msgspec.DecodeError),
        socket.socket(socket.AF_UNIX) as link,
    ):
        link.settimeout(2)
        link.connect(str(paths.gateway_socket))
        link.sendall(b"GET /state HTTP/1.0\r\nHost: gateway\r\n\r\n")
        answer = b""
        while chunk := link.recv(65536):
            answer += chunk
        return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=GatewayState).port > 0
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
