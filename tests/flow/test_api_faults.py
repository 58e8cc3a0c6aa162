"""What hostile or clumsy clients, prompts and templates cost: never more than their own request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.gateway.table import Limits
from tests.factories.engine_client import running_worker
from tests.factories.fake_engine import Turn, fake_engine
from tests.factories.gateway_box import DEADLINE, GatewayBox
from tests.factories.tiny_llama import CHAT_TEMPLATE, make_tiny_gguf

pytestmark = pytest.mark.slow

ABANDONED = 1000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("tiny"))


@contextmanager
def _serving(root: Path, model: Path, limits: Limits) -> Iterator[GatewayBox]:
    box = GatewayBox(root)
    box.limits = limits
    with running_worker(model, box.serve("desk", 1)), box.running():
        yield box


@pytest.fixture(scope="module")
def box(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayBox]:
    limits = Limits(body_limit=4 << 20)
    with _serving(tmp_path_factory.mktemp("box"), model, limits) as made:
        yield made


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "desk", "messages": [{"role": "user", "content": text}], **more}


async def _still_serves(box: GatewayBox) -> None:
    async with box.http() as client:
        answer = await client.post("/v1/chat/completions", json=ask("still here?", max_tokens=3))
    assert answer.status_code == 200


async def test_a_megabyte_of_one_token_is_refused_quickly(box: GatewayBox) -> None:
    async with box.http() as client:
        for body in (ask("a" * (1 << 20)), ask(" a" * (1 << 19)), ask("\n" * (1 << 20))):
            answer = await client.post("/v1/chat/completions", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        tokens = {"model": "desk", "prompt": [5] * 500_000}
        answer = await client.post("/v1/completions", json=tokens)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    await _still_serves(box)


async def test_a_context_that_is_too_long_names_both_numbers(box: GatewayBox) -> None:
    async with box.http() as client:
        for path, body in (
            ("/v1/chat/completions", ask("word " * 200)),
            ("/v1/completions", {"model": "desk", "prompt": "word " * 200}),
            ("/v1/responses", {"model": "desk", "input": "word " * 200, "stream": True}),
        ):
            answer = await client.post(path, json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
            assert " 256 tokens" in error["message"]


TEMPLATES = {
    "loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "attributes": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.environ }}",
    "memory": "{{ 'a' * 10**10 }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
async def test_a_hostile_template_costs_its_own_requests(tmp_path: Path, model: Path, template: str) -> None:
    changed = tmp_path / "model.gguf"
    source = CHAT_TEMPLATE.encode()
    changed.write_bytes(model.read_bytes().replace(source, template.ljust(len(source)).encode()))
    box = GatewayBox(tmp_path / "box")
    with running_worker(changed, box.serve("desk", 1)) as engine:
        await box.start()
        try:
            async with box.http() as client:
                answer = await client.post("/v1/chat/completions", json=ask("hi", stream=True))
                assert answer.status_code == 400
                assert "template" in answer.json()["error"]["message"]
                assert "environ" not in answer.text.replace(template, "")
                plain = await client.post("/v1/completions", json={"model": "desk", "prompt": "hi", "max_tokens": 2})
                assert plain.status_code == 200
            assert engine.poll() is None
        finally:
            box.stop()


def _request(box: GatewayBox, body: dict[str, Any]) -> bytes:
    document = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {box.key.secret}\r\n"
        f"Content-Length: {len(document)}\r\n\r\n"
    )
    return head.encode() + document


async def _flood(turn: Turn) -> None:
    """Talk as fast as the socket takes it, without an end."""
    await turn.accept()
    while True:
        await turn.say("x" * 4096)


async def test_a_client_that_stops_reading_after_64_kib_is_cut(tmp_path: Path) -> None:
    box = GatewayBox(tmp_path)
    box.limits = Limits(slow_client_timeout=0.5)
    cut = threading.Event()

    def read_a_little() -> int:
        with socket.create_connection(("127.0.0.1", box.port)) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            with box.trust().wrap_socket(plain, server_hostname="localhost") as tls:
                tls.sendall(_request(box, ask("x", stream=True)))
                taken = 0
                while taken < 64 << 10:
                    taken += len(tls.recv(4096))
                cut.wait()
                return taken

    async with fake_engine(box.serve("desk", 1), _flood) as engine:
        await box.start()
        reading = asyncio.ensure_future(asyncio.to_thread(read_a_little))
        try:
            assert await asyncio.wait_for(engine.cancelled.get(), DEADLINE) == engine.submits[0].id
        finally:
            cut.set()
        assert await reading >= 64 << 10
        await box.wait_for(lambda state: state.requests == 0)
        assert "intramuros_gateway_slow_clients_total 1.0" in (await box.private("/metrics")).decode()
        assert (await box.state()).memory_bytes < 120 << 20
        box.stop()


async def test_a_thousand_connections_opened_and_abandoned(box: GatewayBox) -> None:
    """Some say nothing, some leave in the head, some in the body, some in the answer."""
    context = box.trust()
    whole = _request(box, ask("x", stream=True, max_tokens=200, ignore_eos=True))
    parts = (b"", whole[:40], whole[:-5], whole)
    opened: list[asyncio.StreamWriter | BaseException] = []
    for start in range(0, ABANDONED, 50):
        begun = (_begin(box, context, parts[number % len(parts)]) for number in range(start, start + 50))
        opened += await asyncio.gather(*begun, return_exceptions=True)
    writers = [writer for writer in opened if isinstance(writer, asyncio.StreamWriter)]
    assert len(writers) == ABANDONED
    assert (await box.state()).port == box.port  # the private side is not held up by clients
    for writer in writers:
        writer.transport.abort()
    await box.wait_for(lambda state: state.requests == 0)
    await _still_serves(box)
    assert (await box.state()).memory_bytes < 120 << 20


async def _begin(box: GatewayBox, context: ssl.SSLContext, data: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", box.port, ssl=context, server_hostname="localhost")
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
    return writer
