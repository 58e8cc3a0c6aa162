"""The guards of one connection, on a real socket."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from appliance.gateway.connection import HEAD_BYTES, GuardedConnection, Guards


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def exchange(data: bytes, *, head_seconds: float = 5.0) -> tuple[bytes, int]:
    """Send bytes and read to the end; returns what came back and how many connections were opened."""
    opened: list[None] = []
    guards = Guards(
        slow_client_timeout=lambda: 5.0,
        on_open=lambda: opened.append(None),
        on_slow_client=lambda: None,
        head_seconds=head_seconds,
    )
    config = Config(app, lifespan="off", ws="none", log_config=None, timeout_keep_alive=1, server_header=False)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: GuardedConnection(config, state, guards), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(data)
        try:
            answer = await asyncio.wait_for(reader.read(), 10)
        except ConnectionResetError:
            answer = b""
        writer.close()
    return answer, len(opened)


async def test_a_request_is_answered() -> None:
    answer, opened = await exchange(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"ok")
    assert opened == 1


async def test_a_client_that_says_nothing_is_cut() -> None:
    assert (await exchange(b"", head_seconds=0.05))[0] == b""


async def test_a_head_that_never_ends_is_cut() -> None:
    assert (await exchange(b"GET / HTTP/1.1\r\nHost: x\r\n", head_seconds=0.05))[0] == b""


async def test_the_second_head_of_a_connection_is_guarded_too() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    answer, _ = await exchange(whole + b"GET / HT", head_seconds=0.2)
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_a_head_beyond_the_limit_is_cut_at_once() -> None:
    filler = b"X-Filler: " + b"y" * HEAD_BYTES + b"\r\n"
    assert (await exchange(b"GET / HTTP/1.1\r\n" + filler * 4))[0] == b""
