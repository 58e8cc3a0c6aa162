"""The gateway as a real process over TLS, on a state directory of its own with keys and a routing table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from appliance.access.keys import FreshKey, new_key
from appliance.access.tls import ensure_leaf
from appliance.gateway.state import GatewayState
from appliance.gateway.table import KeyEntry, Limits, Listen, Route, RoutingTable, encode_table, write_table
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.paths import StatePaths

DEADLINE = 20.0
DIGEST = "ab" * 32


class GatewayBox:
    """A state directory with certificates, keys and a table, and the gateway process on it."""

    def __init__(self, root: Path) -> None:
        self.paths = StatePaths(root)
        self.paths.run.mkdir(parents=True, mode=0o700)
        ensure_leaf(self.paths, ())
        self.key = new_key()
        self.expired = new_key()
        self.narrow = new_key()
        self.more_keys: list[KeyEntry] = []
        self.limits = Limits()
        self.routes: dict[str, Route] = {}
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def serve(
        self,
        name: str,
        revision: int,
        engine_socket: Path | None = None,
        *,
        kind: str = "generate",
        categories: dict[str, str] | None = None,
    ) -> Path:
        """Route `name` to a revision; returns its socket path."""
        path = engine_socket or self.paths.worker_socket(revision)
        self.routes[name] = Route(
            revision=revision,
            socket=str(path),
            model_ref=f"{name}@{revision}",
            digest=DIGEST,
            created=1_700_000_000,
            kind=kind,
            categories=categories or {},
        )
        return path

    def table(self) -> RoutingTable:
        certificate, key = str(self.paths.leaf_certificate), str(self.paths.leaf_key)
        return RoutingTable(
            listen=Listen(host="127.0.0.1", port=self.port, certificate=certificate, key=key),
            limits=self.limits,
            routes=dict(self.routes),
            keys=(
                _entry(self.key, "all"),
                _entry(self.expired, "old", expires_at=time.time() - 60),
                _entry(self.narrow, "narrow", models=("other",)),
                *self.more_keys,
            ),
        )

    def add_key(self, name: str, **more: Any) -> FreshKey:
        """Make a key that counts once the table is written."""
        key = new_key()
        self.more_keys.append(_entry(key, name, **more))
        return key

    def write(self) -> str:
        """Write the table; returns its digest."""
        table = self.table()
        write_table(self.paths.gateway_table, table)
        return sha256_hex(encode_table(table))

    def launch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "appliance.gateway.main", "--state", str(self.paths.root)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    @property
    def url(self) -> str:
        """What a client calls its base URL."""
        return f"https://localhost:{self.port}/v1"

    @contextlib.contextmanager
    def running(self) -> Iterator[GatewayBox]:
        """Start it and stop it, for tests that are not asynchronous."""
        asyncio.run(self.start())
        try:
            yield self
        finally:
            self.stop()

    async def start(self) -> None:
        self.write()
        self.process = self.launch()
        state = await self.wait_for(lambda state: state.port > 0)
        self.port = state.port

    async def state(self) -> GatewayState:
        return msgspec.json.decode(await self.private("/state"), type=GatewayState)

    async def private(self, path: str) -> bytes:
        transport = httpx.AsyncHTTPTransport(uds=str(self.paths.gateway_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return (await client.get(path)).raise_for_status().content

    async def wait_for(self, wanted: Callable[[GatewayState], bool]) -> GatewayState:
        """Poll `/state` until it says what is wanted."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                pytest.fail(f"the gateway ended: {self.process.stderr.read().decode()}")
            with contextlib.suppress(httpx.TransportError):
                state = await self.state()
                if wanted(state):
                    return state
            await asyncio.sleep(0.02)
        pytest.fail("the gateway did not reach the state in time")

    async def adopt(self) -> None:
        """Write the table, signal, and wait until it is in force."""
        digest = self.write()
        self.signal(signal.SIGHUP)
        await self.wait_for(lambda state: state.table == digest)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the process's end; returns its status."""
        assert self.process is not None
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), DEADLINE)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.paths.authority_certificate))

    def http(self, key: FreshKey | None = None) -> httpx.AsyncClient:
        chosen = key or self.key
        return httpx.AsyncClient(
            base_url=f"https://localhost:{self.port}",
            verify=self.trust(),
            headers={"authorization": f"Bearer {chosen.secret}"},
            timeout=DEADLINE,
        )

    def client(self, key: FreshKey | None = None) -> openai.AsyncOpenAI:
        chosen = key or self.key
        return openai.AsyncOpenAI(
            base_url=self.url,
            api_key=chosen.secret,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(verify=self.trust(), timeout=DEADLINE),
        )

    def access_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.paths.logs / "access.jsonl").read_text().splitlines()]


def _entry(key: FreshKey, name: str, **more: Any) -> KeyEntry:
    return KeyEntry(id=key.id, hash=key.hash, name=name, **more)
