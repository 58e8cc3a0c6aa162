"""The client of an engine, against a fake engine on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.engine.frames import Failed, Finished, Piece, Submit
from appliance.gateway.engine_link import MOST_HELD, ClientGone, EngineLink, Exchange
from appliance.kernel.errors import Unavailable
from tests.factories.fake_engine import FakeEngine, Turn, fake_engine


async def silent(turn: Turn) -> None:
    await turn.accept()
    await asyncio.Event().wait()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    async with fake_engine(tmp_path / "engine.sock") as running:
        yield running


def ask(text: str) -> Submit:
    return Submit(id=0, tenant="t", prompt=text)


async def everything(exchange: Exchange, choices: int = 1) -> list[tuple[int, object]]:
    """Listen until each choice has ended."""
    heard: list[tuple[int, object]] = []
    while sum(isinstance(outcome, Finished | Failed) for _, outcome in heard) < choices:
        heard += await asyncio.wait_for(exchange.take(), 5)
    return heard


async def test_choices_share_one_connection_and_keep_apart(engine: FakeEngine) -> None:
    link = EngineLink(1, engine.socket)
    first, second = link.hold(), link.hold()
    await asyncio.gather(link.submit(first, [ask("a b"), ask("c")]), link.submit(second, [ask("d")]))
    heard = await everything(first, choices=2)
    texts = {choice: "".join(o.text for c, o in heard if c == choice and isinstance(o, Piece)) for choice in (0, 1)}
    assert texts == {0: "a b", 1: "c"}
    assert isinstance((await everything(second))[-1][1], Finished)
    assert len(engine.connections) == 1
    link.release(first)
    link.release(second)
    assert link.active == 0


async def test_release_cancels_what_still_runs(engine: FakeEngine) -> None:
    engine.answer = silent
    link = EngineLink(1, engine.socket)
    exchange = link.hold()
    await link.submit(exchange, [ask("x"), ask("y")])
    await exchange.take()
    link.release(exchange)
    cancelled = {await asyncio.wait_for(engine.cancelled.get(), 5) for _ in range(2)}
    assert cancelled == {submit.id for submit in engine.submits}


async def test_death_fails_what_runs_and_the_next_request_reconnects(engine: FakeEngine) -> None:
    engine.answer = silent
    link = EngineLink(1, engine.socket)
    exchange = link.hold()
    await link.submit(exchange, [ask("x")])
    await engine.die()
    heard = [outcome for _, outcome in await everything(exchange)]
    failed = heard[-1]
    assert isinstance(failed, Failed)
    assert failed.retryable
    with pytest.raises(Unavailable):
        await link.submit(exchange, [ask("x")])
    link.release(exchange)
    async with fake_engine(engine.socket):
        again = link.hold()
        await link.submit(again, [ask("x")])
        assert await again.take()
        link.release(again)


async def test_a_retired_link_closes_with_its_last_request(engine: FakeEngine) -> None:
    engine.answer = silent
    link = EngineLink(1, engine.socket)
    first, second = link.hold(), link.hold()
    await link.submit(first, [ask("x")])
    link.retire()
    link.release(second)
    await link.submit(first, [ask("still served")])
    assert (link.active, len(engine.connections)) == (1, 1)
    link.release(first)
    assert await asyncio.wait_for(engine.hung_up.get(), 5) == 1
    assert not link.connected


async def test_a_client_that_left_is_not_waited_for(engine: FakeEngine) -> None:
    engine.answer = silent
    link = EngineLink(1, engine.socket)
    exchange = link.hold()
    await link.submit(exchange, [ask("x")])
    asyncio.get_running_loop().call_later(0.01, exchange.hang_up)
    with pytest.raises(ClientGone):
        await everything(exchange)
    link.release(exchange)


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_something_else_on_the_socket_is_unavailable(tmp_path: Path, greeting: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_unix_server(answer, str(tmp_path / "s")):
        link = EngineLink(1, tmp_path / "s")
        with pytest.raises(Unavailable):
            await link.submit(link.hold(), [ask("x")])


async def test_an_answer_that_nobody_takes_does_not_pile_up() -> None:
    exchange = Exchange()
    for _ in range(2 * MOST_HELD // 4096):
        exchange.push(0, Piece(id=1, text="x" * 4096, tokens=1))
    with pytest.raises(ClientGone):
        await exchange.take()


async def test_an_answer_that_is_taken_may_be_of_any_length() -> None:
    exchange = Exchange()
    for _ in range(2 * MOST_HELD // 4096):
        exchange.push(0, Piece(id=1, text="x" * 4096, tokens=1))
        assert len(await exchange.take()) == 1
