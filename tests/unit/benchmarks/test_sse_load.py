"""The load client counts what the server says and refuses anything but a whole stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.sse_load import Answer, Refused, Target, run_load

_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    b'data: {"choices":[{"text":"a"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7}}\n\n'
    b"data: [DONE]\n\n"
)


@asynccontextmanager
async def _server(answer: bytes) -> AsyncIterator[Target]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target(port=server.sockets[0].getsockname()[1], model="m")


async def test_every_prompt_is_answered_and_counted() -> None:
    async with _server(_STREAM) as target:
        load = await run_load(target, [str(number) for number in range(5)], streams=2, max_tokens=7)
    assert load.tokens == 35
    assert len(load.answers) == 5
    assert all(0 < answer.first <= answer.whole for answer in load.answers)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 Busy\r\n\r\nno room", "503"),
        (b'HTTP/1.1 200 OK\r\n\r\ndata: {"choices":[]}\n\n', "without a count"),
    ],
)
async def test_anything_but_a_whole_stream_is_refused(answer: bytes, why: str) -> None:
    async with _server(answer) as target:
        with pytest.raises(Refused, match=why):
            await run_load(target, ["x"], streams=1, max_tokens=1)


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        (b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\n\r\nno room", True),
        (b"HTTP/1.1 503 Busy\r\n\r\nretry-after: 1", False),
        (b'HTTP/1.1 200 OK\r\n\r\ndata: {"error":{"message":"gone","code":"engine_unavailable"}}\n\n', True),
        (b'HTTP/1.1 200 OK\r\n\r\ndata: {"error":{"message":"bad","code":"schema_too_complex"}}\n\n', False),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
    ],
)
async def test_an_error_that_may_be_retried_is_told_from_one_that_may_not(answer: bytes, retryable: bool) -> None:
    async with _server(answer) as target:
        with pytest.raises(Refused) as caught:
            await run_load(target, ["x"], streams=1, max_tokens=1)
    assert caught.value.retryable is retryable


def test_the_longest_gap_is_looked_for_within_a_time() -> None:
    answer = Answer(tokens=5, prompt_tokens=1, begun=0.0, events=(1.0, 2.0, 5.0, 5.5, 9.5))
    assert (answer.first, answer.whole) == (1.0, 9.5)
    assert answer.longest_gap(1.5, 6.0) == 4.0
    assert answer.longest_gap(2.5, 5.2) == 3.0
    assert answer.longest_gap(20.0, 21.0) == 0.0
