"""The gateway as a real process over TLS: official client in front, a fake engine behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from appliance.access.keys import FreshKey, new_key
from appliance.access.tls import ensure_leaf
from appliance.gateway.table import Limits
from appliance.kernel.clock import utc_now
from tests.factories.engine_client import running_worker
from tests.factories.fake_engine import FakeEngine, Turn, fake_engine
from tests.factories.gateway_box import DEADLINE, DIGEST, GatewayBox
from tests.factories.tiny_llama import make_tiny_gguf

RSS_LIMIT = 60 << 20


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close for good: a transport that is left to the garbage collector warns."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[GatewayBox]:
    made = GatewayBox(tmp_path)
    yield made
    made.stop()


@pytest.fixture
async def served(box: GatewayBox) -> AsyncIterator[tuple[GatewayBox, FakeEngine]]:
    """A running gateway with the deployment `desk` on a fake engine."""
    async with fake_engine(box.serve("desk", 1)) as engine:
        await box.start()
        yield box, engine


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "desk", "messages": [{"role": "user", "content": text}], **more}


async def endless(turn: Turn) -> None:
    """Talk until cancelled."""
    await turn.accept()
    while True:
        await turn.say("word ")
        await asyncio.sleep(0.005)


async def flood(turn: Turn) -> None:
    """Talk as fast as the socket takes it."""
    await turn.accept()
    while True:
        await turn.say("x" * 4096)


def stepwise(go: asyncio.Queue[str]) -> Callable[[Turn], Awaitable[None]]:
    """Say one word, then whatever the queue brings, until it brings an empty word."""

    async def answer(turn: Turn) -> None:
        await turn.accept()
        await turn.say("first")
        while word := await go.get():
            await turn.say(word)
        await turn.finish()

    return answer


async def test_official_client_whole_and_streamed(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, engine = served
    async with box.client() as client:
        models = await client.models.list()
        assert [model.id for model in models.data] == ["desk"]
        whole = await client.chat.completions.create(**ask("one two three", n=2, seed=7, temperature=0.5, stop="x"))
        assert [choice.message.content for choice in whole.choices] == ["one two three"] * 2
        assert (whole.model, whole.system_fingerprint) == ("desk", f"r1-{DIGEST[:12]}")
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, 6)
        stream = await client.chat.completions.create(
            **ask("one two", stream=True, stream_options={"include_usage": True})
        )
        chunks = [chunk async for chunk in stream]
        completion = await client.completions.create(model="desk", prompt=["a b", "c"])
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2
    assert [choice.text for choice in completion.choices] == ["a b", "c"]
    assert {submit.tenant for submit in engine.submits} == {box.key.id}
    assert [submit.params.seed for submit in engine.submits[:2]] == [7, 8]


async def test_access_line_and_metrics_say_no_content(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    async with box.http() as client:
        answer = await client.post("/v1/chat/completions", json=ask("topsecret words"))
    line = await _access_line(box, answer.headers["x-request-id"])
    metrics = (await box.private("/metrics")).decode()
    assert "server" not in answer.headers
    assert (line["key"], line["model"], line["revision"], line["status"]) == (box.key.id, "desk", 1, 200)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (2, 2)
    assert 0 < line["ttft"] <= line["duration"]
    labels = 'model="desk",route="/v1/chat/completions",status="200"'
    assert f"intramuros_gateway_requests_total{{{labels}}} 1.0" in metrics
    assert 'intramuros_gateway_tokens_total{direction="completion",model="desk"} 2.0' in metrics
    written = (box.paths.logs / "access.jsonl").read_text() + metrics
    assert "topsecret" not in written
    assert box.key.secret not in written


async def test_refusals_have_openai_shape(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    stranger = new_key()
    async with box.http() as client:

        async def refused(path: str, *, key: FreshKey = box.key, method: str = "POST", **more: Any) -> tuple[int, str]:
            headers = {"authorization": f"Bearer {key.secret}"}
            answer = await client.request(method, path, headers=headers, **more)
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert answer.headers["x-request-id"]
            assert key.secret not in answer.text
            return answer.status_code, error["code"]

        chat = "/v1/chat/completions"
        assert await refused(chat, key=stranger, json=ask("x")) == (401, "invalid_api_key")
        assert await refused(chat, key=box.expired, json=ask("x")) == (401, "expired_api_key")
        assert await refused(chat, key=box.narrow, json=ask("x")) == (403, "model_not_allowed")
        assert await refused(chat, json=ask("x") | {"model": "nobody"}) == (404, "model_not_found")
        assert await refused("/v1/models/nobody", method="GET") == (404, "model_not_found")
        assert await refused(chat, json=ask("x", tools=[{"type": "browser"}])) == (400, "unsupported")
        assert await refused(chat, json=ask("x", temperature=3)) == (400, "invalid_request_error")
        assert await refused(chat, content=b"{") == (400, "invalid_request_error")
        assert await refused(chat, method="GET") == (405, "method_not_allowed")
        assert await refused("/v1/images/generations", json={}) == (404, "unknown_url")
        bare = await client.post(chat, json=ask("x"), headers={"authorization": ""})
        assert (bare.status_code, bare.json()["error"]["code"]) == (401, "missing_api_key")
        assert (await client.get("/healthz", headers={"authorization": ""})).json() == {"status": "ok"}


async def test_too_large_body_is_refused_with_and_without_length(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, engine = served
    large = json.dumps(ask("x" * (box.limits.body_limit + 1))).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    async with box.http() as client:
        for content in (large, chunks()):
            answer = await client.post("/v1/chat/completions", content=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert (await client.post("/v1/chat/completions", json=ask("still here"))).status_code == 200
    assert len(engine.submits) == 1


async def test_engine_errors_become_http_errors(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, engine = served
    answers = {
        "long": ("engine.context_length", False, 400, "context_length_exceeded"),
        "busy": ("engine.draining", True, 503, "engine_unavailable"),
    }

    async def refuse(turn: Turn) -> None:
        code, retryable, _, _ = answers[turn.prompt]
        await turn.fail(code, "no", retryable=retryable)

    engine.answer = refuse
    async with box.http() as client:
        for prompt, (_, retryable, status, code) in answers.items():
            for stream in (False, True):
                answer = await client.post("/v1/chat/completions", json=ask(prompt, stream=stream))
                assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
                assert ("retry-after" in answer.headers) == retryable


async def test_hang_up_cancels_in_the_engine(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, engine = served
    engine.answer = endless
    for stream in (True, False):
        async with box.http() as client:
            request = asyncio.ensure_future(_read_a_little(client, ask("x", stream=stream)))
            await box.wait_for(lambda state: state.revisions["1"].active == 1)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
        identifier = await asyncio.wait_for(engine.cancelled.get(), DEADLINE)
        assert identifier == engine.submits[-1].id
        await box.wait_for(lambda state: state.revisions["1"].active == 0)


async def _read_a_little(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for _ in answer.aiter_bytes():
            pass


async def test_client_that_never_reads_is_cut(box: GatewayBox) -> None:
    box.limits = Limits(slow_client_timeout=0.3)
    async with fake_engine(box.serve("desk", 1), flood) as engine:
        await box.start()
        body = json.dumps(ask("x", stream=True)).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {box.key.secret}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", box.port)) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            with box.trust().wrap_socket(plain, server_hostname="localhost") as tls:
                tls.sendall(head.encode() + body)
                assert await asyncio.wait_for(engine.cancelled.get(), DEADLINE) == engine.submits[0].id
        await box.wait_for(lambda state: state.requests == 0)
        assert "intramuros_gateway_slow_clients_total 1.0" in (await box.private("/metrics")).decode()


async def test_engine_death_mid_stream_and_recovery(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, engine = served
    go: asyncio.Queue[str] = asyncio.Queue()
    engine.answer = stepwise(go)
    async with box.client() as client:
        stream = await client.chat.completions.create(**ask("x", stream=True))
        chunks = aiter(stream)
        await anext(chunks)
        await engine.die()
        with pytest.raises(openai.APIError) as mid:
            await _exhaust(chunks)
        assert mid.value.code == "engine_unavailable"
        with pytest.raises(openai.InternalServerError) as down:
            await client.chat.completions.create(**ask("x"))
        assert down.value.status_code == 503
        assert down.value.response.headers["retry-after"] == "1"
        async with fake_engine(engine.socket):
            again = await client.chat.completions.create(**ask("back again"))
            assert again.choices[0].message.content == "back again"


async def _exhaust(chunks: AsyncIterator[Any]) -> None:
    async for _ in chunks:
        pass


async def test_engine_death_before_the_first_text_is_retryable(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, engine = served

    async def die(turn: Turn) -> None:
        await turn.accept()
        asyncio.get_running_loop().call_soon(engine.connections[-1].transport.abort)

    engine.answer = die
    async with box.http() as client:
        answer = await client.post("/v1/chat/completions", json=ask("x", stream=True))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.slow
async def test_real_engine_answers_and_its_death_is_survived(box: GatewayBox, tmp_path: Path) -> None:
    model = make_tiny_gguf(tmp_path / "model")
    path = box.serve("desk", 1)
    greedy = {"max_tokens": 12, "temperature": 0}
    async with box.client() as client:
        with running_worker(model, path) as engine:
            await box.start()
            client.base_url = f"https://localhost:{box.port}/v1"
            whole = await client.chat.completions.create(**ask("Which port?", n=2, logprobs=True, **greedy))
            stream = await client.chat.completions.create(**ask("Which port?", stream=True, **greedy))
            streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert [choice.message.content for choice in whole.choices] == [streamed, streamed]
            assert whole.usage is not None
            assert whole.usage.completion_tokens == 24
            assert whole.choices[0].logprobs is not None
            assert len(whole.choices[0].logprobs.content or ()) == 12
            echoed = await client.completions.create(
                model="desk", prompt="def answer", echo=True, logprobs=1, max_tokens=3, temperature=0
            )
            assert echoed.choices[0].text.startswith("def answer")
            assert echoed.choices[0].logprobs is not None
            assert (echoed.choices[0].logprobs.text_offset or [])[0] == len("def answer")
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(**ask("x " * 400))
            assert caught.value.code == "context_length_exceeded"
            engine.kill()
            engine.wait()
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(**ask("Which port?", **greedy))
        path.unlink()
        with running_worker(model, path):
            again = await client.chat.completions.create(**ask("Which port?", **greedy))
            assert again.choices[0].message.content == streamed


async def test_table_switch_keeps_the_old_stream(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, old = served
    go: asyncio.Queue[str] = asyncio.Queue()
    old.answer = stepwise(go)
    async with box.client() as client, fake_engine(box.serve("desk", 2)) as new:
        stream = await client.chat.completions.create(**ask("x", stream=True))
        chunks = aiter(stream)
        await anext(chunks)
        await box.adopt()
        state = await box.state()
        assert (state.revisions["1"].active, state.revisions["1"].retired) == (1, True)
        fresh = await client.chat.completions.create(**ask("new one"))
        assert fresh.system_fingerprint == f"r2-{DIGEST[:12]}"
        for word in (" second", ""):
            go.put_nowait(word)
        rest = [chunk async for chunk in chunks]
        assert "".join(c.choices[0].delta.content or "" for c in rest if c.choices).endswith(" second")
        assert {chunk.system_fingerprint for chunk in rest} == {f"r1-{DIGEST[:12]}"}
        assert len(new.submits) == 1
        await box.wait_for(lambda state: "1" not in state.revisions)


async def test_broken_table_keeps_the_old_one(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    before = (await box.state()).table
    box.paths.gateway_table.write_bytes(b'{"listen": 1}')
    state = await box.wait_for(lambda state: state.table_problem != "")  # found by looking, without a signal
    assert state.table == before
    async with box.http() as client:
        assert (await client.post("/v1/chat/completions", json=ask("x"))).status_code == 200
    await box.adopt()
    assert (await box.state()).table_problem == ""


async def test_revoked_key_stops_working(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    revoked = box.key
    async with box.http(revoked) as client:
        assert (await client.get("/v1/models")).status_code == 200
        box.key = new_key()
        await box.adopt()
        assert (await client.get("/v1/models")).status_code == 401


async def test_too_many_requests(box: GatewayBox) -> None:
    box.limits = Limits(concurrency=3, key_concurrency=2)
    async with fake_engine(box.serve("desk", 1), endless):
        box.serve("other", 1, box.paths.worker_socket(1))
        await box.start()
        async with box.http() as client, box.http(box.narrow) as second:
            running = [asyncio.ensure_future(_read_a_little(client, ask("x", stream=True))) for _ in range(2)]
            await box.wait_for(lambda state: state.requests == 2)
            own = await client.post("/v1/chat/completions", json=ask("x"))
            running.append(asyncio.ensure_future(_read_a_little(second, ask("x", stream=True) | {"model": "other"})))
            await box.wait_for(lambda state: state.requests == 3)
            whole = await second.post("/v1/chat/completions", json=ask("x") | {"model": "other"})
            for answer in (own, whole):
                assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert box.key.id in own.json()["error"]["message"]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        await box.wait_for(lambda state: state.requests == 0)


async def test_sigterm_drains_and_ends_with_zero(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, engine = served
    go: asyncio.Queue[str] = asyncio.Queue()
    engine.answer = stepwise(go)
    async with box.client() as client:
        stream = await client.chat.completions.create(**ask("x", stream=True))
        chunks = aiter(stream)
        await anext(chunks)
        box.signal(signal.SIGTERM)
        await _until_refused(box.port)
        for word in (" last", ""):
            go.put_nowait(word)
        rest = [chunk async for chunk in chunks]
        assert "".join(c.choices[0].delta.content or "" for c in rest if c.choices).endswith(" last")
        assert rest[-1].choices[0].finish_reason == "stop"
        assert await box.ended() == 0
    assert not box.paths.gateway_socket.exists()


async def _access_line(box: GatewayBox, request: str) -> dict[str, Any]:
    """Return the line of a request: it is written after the answer has gone out."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        for line in box.access_lines():
            if line["id"] == request:
                return line
        await asyncio.sleep(0.02)
    pytest.fail("no access line was written")


async def _until_refused(port: int) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        await _close(writer)
        await asyncio.sleep(0.02)
    pytest.fail("the port stayed open")


async def test_drain_has_an_end(box: GatewayBox) -> None:
    box.limits = Limits(drain_timeout=1.0)
    async with fake_engine(box.serve("desk", 1), endless):
        await box.start()
        async with box.http() as client:
            reading = asyncio.ensure_future(_read_a_little(client, ask("x", stream=True)))
            await box.wait_for(lambda state: state.requests == 1)
            box.signal(signal.SIGTERM)
            assert await box.ended() == 0
            with pytest.raises(httpx.TransportError):
                await reading
    assert [line["code"] for line in box.access_lines()] == ["drain_timeout"]


def test_port_taken_is_one_clear_line(box: GatewayBox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        box.port = taken.getsockname()[1]
        box.write()
        process = box.launch()
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 4
    assert errors.decode().startswith("gateway.port_taken: ")
    assert errors.count(b"\n") == 1
    assert not box.paths.gateway_socket.exists()


def test_wide_key_file_is_refused(box: GatewayBox) -> None:
    box.write()
    box.paths.leaf_key.chmod(0o640)
    process = box.launch()
    _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors.decode().partition(":")[0]) == (5, "private.mode")


async def test_only_tls_1_2_and_later(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    versions = {}
    for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = box.trust()
        context.set_ciphers("ALL:@SECLEVEL=0")
        # setting a version that is out of date warns, which is the point here
        with (
            pytest.warns(DeprecationWarning, match="TLSv1_1")
            if version == ssl.TLSVersion.TLSv1_1
            else contextlib.nullcontext()
        ):
            context.minimum_version = version
            context.maximum_version = version
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", box.port, ssl=context, server_hostname="localhost")
        except (ssl.SSLError, ConnectionResetError):  # uvloop resets instead of sending the alert
            versions[version.name] = "refused"
        else:
            versions[version.name] = "ok"
            await _close(writer)
    assert versions == {"TLSv1_1": "refused", "TLSv1_2": "ok", "TLSv1_3": "ok"}


async def test_renewed_certificate_is_used_without_a_restart(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    before = await _serial(box)
    ensure_leaf(box.paths, ("gateway.example",), utc_now())
    box.signal(signal.SIGHUP)
    end = time.monotonic() + DEADLINE
    while (after := await _serial(box)) == before and time.monotonic() < end:
        await asyncio.sleep(0.02)
    assert after != before


async def _serial(box: GatewayBox) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", box.port, ssl=box.trust(), server_hostname="localhost")
    certificate = writer.get_extra_info("ssl_object").getpeercert()
    await _close(writer)
    serial: str = certificate["serialNumber"]
    return serial


async def test_private_socket_is_private_and_memory_is_small(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    async with box.http() as client:
        for _ in range(20):
            assert (await client.post("/v1/chat/completions", json=ask("a b c", stream=True))).status_code == 200
    assert box.paths.gateway_socket.stat().st_mode & 0o777 == 0o600
    assert box.process is not None
    status = Path(f"/proc/{box.process.pid}/status").read_text()
    assert int(status.partition("VmRSS:")[2].split()[0]) << 10 < RSS_LIMIT
    loaded = Path(f"/proc/{box.process.pid}/maps").read_text()
    assert "torch" not in loaded
    assert "llama" not in loaded
    assert "_rust.abi3" not in loaded  # cryptography: the standard library's ssl is enough here


async def test_endless_head_is_cut(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    reader, writer = await asyncio.open_connection("127.0.0.1", box.port, ssl=box.trust(), server_hostname="localhost")
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            writer.write(b"X-Filler: " + b"y" * 8000 + b"\r\n")
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
    await _close(writer)


async def test_invalid_http_gets_a_document(served: tuple[GatewayBox, FakeEngine]) -> None:
    box, _ = served
    reader, writer = await asyncio.open_connection("127.0.0.1", box.port, ssl=box.trust(), server_hostname="localhost")
    writer.write(b"NONSENSE\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), DEADLINE)
    await _close(writer)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_request_error" in answer


def test_gateway_imports_nothing_heavy() -> None:
    code = (
        "import sys, appliance.gateway.main\n"
        "heavy = {'torch', 'transformers', 'llama_cpp', 'sqlalchemy', 'cryptography', 'httpx', 'openai', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert found.stdout.strip() == "[]"
