"""The two programs of the serving comparison: gateway and engine as they are used, and llama-server.

Ours is measured behind TLS, key check and accounting; the peer answers plain HTTP. Both run one libllama with the same
threads, cells, slots and batch sizes.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from appliance.access.keys import new_key
from appliance.access.tls import ensure_leaf
from appliance.gateway.state import GatewayState
from appliance.gateway.table import KeyEntry, Listen, Route, RoutingTable, write_table
from appliance.kernel.canonical import sha256_file
from appliance.kernel.paths import StatePaths
from benchmarks.processes import accepts, cpu_seconds, free_port, running, wait_until
from benchmarks.sse_load import Target

SLOTS: Final = 16
CONTEXT: Final = 16384
SPIN: Final = {"GOMP_SPINCOUNT": "1000"}
"""The same for both sides: it decides more than anything else how a shared machine feels."""


_BACKEND_SAMPLING: Final = ("--backend-sampling",)
"""both programs call it so"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One program under measurement: where to send requests, and whose CPU time counts."""

    target: Target
    processes: tuple[subprocess.Popen[bytes], ...]

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(*self.processes)


@contextlib.contextmanager
def ours(
    state: Path,
    model: Path,
    libraries: Path,
    *,
    threads: int,
    slots: int = SLOTS,
    environment: Mapping[str, str] = SPIN,
    gpu: bool = False,
    backend_sampling: bool = False,
) -> Iterator[Side]:
    """Gateway and engine, without a daemon. With `gpu` every layer is on the first device."""
    digest = sha256_file(model)

    def worker(socket: Path) -> list[str | Path]:
        argv = engine(model, digest, socket, threads=threads, slots=slots, context=CONTEXT * slots // SLOTS)
        argv += ["--gpu-layers", "9999"] if gpu else []
        return [*argv, *(_BACKEND_SAMPLING if backend_sampling else ())]

    libraries_of = {"LLAMA_CPP_LIB_PATH": str(libraries)}
    with gateway_before(state, worker, digest=digest, environment={**environment, **libraries_of}) as side:
        yield side


def engine(
    model: Path,
    digest: str,
    socket: Path,
    *,
    threads: int,
    slots: int = SLOTS,
    context: int = CONTEXT,
    draft: Path | None = None,
) -> list[str | Path]:
    """The command of an engine as it is deployed."""
    argv: list[str | Path] = [sys.executable, "-I", "-m", "appliance.engine.llama_worker", "--model", model]
    argv += ["--digest", digest, "--socket", socket, "--threads", str(threads), "--slots", str(slots)]
    if draft is not None:
        argv += ["--draft", draft, "--draft-digest", sha256_file(draft)]
    return [*argv, "--context", str(context), "--name", "bench@1"]


@contextlib.contextmanager
def gateway_before(
    state: Path,
    worker: Callable[[Path], list[str | Path]],
    *,
    digest: str,
    environment: Mapping[str, str] | None = None,
    keys: Iterable[KeyEntry] = (),
    adapters: Iterable[str] = (),
) -> Iterator[Side]:
    """The gateway before a worker that serves on the socket it is given. The gateway is the last of the processes.

    Beside the key of the side's target, `keys` may come in; each of the worker's `adapters` has a name of its own.
    """
    paths = StatePaths(state)
    paths.run.mkdir(parents=True, mode=0o700)
    paths.logs.mkdir(mode=0o700)
    ensure_leaf(paths, ())
    key = new_key()
    port, endpoint = free_port(), paths.worker_socket(1)
    route = Route(revision=1, socket=str(endpoint), model_ref="bench@1", digest=digest, created=0)
    write_table(
        paths.gateway_table,
        RoutingTable(
            listen=Listen(port=port, certificate=str(paths.leaf_certificate), key=str(paths.leaf_key)),
            routes={"bench": route, **{f"bench:{label}": replace(route, adapter=label) for label in adapters}},
            keys=(KeyEntry(id=key.id, hash=key.hash, name="bench"), *keys),
        ),
    )
    gate: list[str | Path] = [sys.executable, "-I", "-m", "appliance.gateway.main", "--state", state]
    with (
        running(worker(endpoint), log=paths.logs / "engine.log", environment=environment) as process,
        running(gate, log=paths.logs / "gateway.log") as gateway,
    ):
        wait_until(lambda: endpoint.exists(), process, what="the engine")
        wait_until(lambda: gateway_state(paths) is not None, process, gateway, what="the gateway")
        target = Target(
            port=port,
            model="bench",
            tls=ssl.create_default_context(cafile=paths.authority_certificate),
            headers={"Authorization": f"Bearer {key.secret}"},
        )
        yield Side(target=target, processes=(process, gateway))


@contextlib.contextmanager
def llama_server(
    work: Path, model: Path, peer: Path, *, threads: int, defaults: bool = False, backend_sampling: bool = False
) -> Iterator[Side]:
    """The peer with its own defaults for caching prompts, or with all its defaults."""
    port = free_port()
    argv: list[str | Path] = [peer / "llama-server", "--model", model, "--host", "127.0.0.1", "--port", str(port)]
    if not defaults:
        argv += [*_same_as_ours(threads), *(_BACKEND_SAMPLING if backend_sampling else ())]
    with running(argv, log=work / "llama-server.log", environment=SPIN) as server:
        wait_until(lambda: accepts(port) and _healthy(port), server, what="llama-server")
        yield Side(target=Target(port=port, model="bench"), processes=(server,))


def _same_as_ours(threads: int) -> list[str]:
    argv = ["--threads", str(threads), "--threads-batch", str(threads), "--ctx-size", str(CONTEXT)]
    return [*argv, "--parallel", str(SLOTS), "--kv-unified", "--batch-size", "2048", "--ubatch-size", "512"]


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def gateway_state(paths: StatePaths) -> GatewayState | None:
    """What the gateway says of itself; None while it does not listen."""
    with contextlib.suppress(OSError, http.client.HTTPException, msgspec.DecodeError):
        state = msgspec.json.decode(ask_privately(paths, "/state"), type=GatewayState)
        return state if state.port > 0 else None
    return None


def ask_privately(paths: StatePaths, path: str) -> bytes:
    """Read a page of the gateway's private side. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(2)
        link.connect(str(paths.gateway_socket))
        link.sendall(f"GET {path} HTTP/1.0\r\nHost: gateway\r\n\r\n".encode())
        answer = b""
        while chunk := link.recv(65536):
            answer += chunk
    return answer.partition(b"\r\n\r\n")[2]
