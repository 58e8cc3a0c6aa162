"""The worker's side of the engine protocol without a model: what it answers is a function of the test's choosing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from appliance.engine.frames import (
    VERSION,
    Accepted,
    Cancel,
    Failed,
    Finished,
    FromWorker,
    Hello,
    Info,
    Piece,
    Step,
    Submit,
    TokenLogprob,
    client_stream,
    encode,
)


class Turn:
    """One submitted request, as the answering function sees it."""

    def __init__(self, submit: Submit, send: Callable[[FromWorker], Awaitable[None]]) -> None:
        self.submit = submit
        self.pieces = 0
        self._send = send

    @property
    def prompt(self) -> str:
        """The last message, or the text to complete."""
        return self.submit.messages[-1].content if self.submit.messages else self.submit.prompt or ""

    async def accept(self) -> None:
        await self._send(Accepted(id=self.submit.id, prompt_tokens=len(self.prompt.split())))

    async def say(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        self.pieces += 1
        piece = Piece(id=self.submit.id, text=text, tokens=1, logprobs=logprobs)
        await self._send(Step(items=(piece,)))

    async def finish(self, reason: str = "stop") -> None:
        assert reason in ("stop", "length", "cancelled")
        await self._send(
            Finished(
                id=self.submit.id,
                reason=reason,  # type: ignore[arg-type]
                prompt_tokens=len(self.prompt.split()),
                completion_tokens=self.pieces,
                cached_tokens=1,
                queue_seconds=0.0,
                prompt_seconds=0.0,
                generation_seconds=0.0,
            )
        )

    async def fail(self, code: str, message: str, *, retryable: bool = False) -> None:
        await self._send(Failed(id=self.submit.id, code=code, message=message, retryable=retryable))


Answer = Callable[[Turn], Awaitable[None]]


async def echo(turn: Turn) -> None:
    """Repeat the prompt word by word."""
    await turn.accept()
    words = turn.prompt.split()
    for number, word in enumerate(words):
        await turn.say(word if number == 0 else " " + word)
    await turn.finish()


class FakeEngine:
    """One fake worker on a Unix socket."""

    def __init__(self, socket: Path, answer: Answer = echo) -> None:
        self.socket = socket
        self.answer = answer
        self.submits: list[Submit] = []
        self.cancelled: asyncio.Queue[int] = asyncio.Queue()
        self.hung_up: asyncio.Queue[int] = asyncio.Queue()
        """one entry per client that went: how many had come by then"""
        self.connections: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.socket))

    async def die(self) -> None:
        """End as a killed process does: no listener, every connection cut."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self.connections:
            writer.transport.abort()
        self.connections.clear()
        self.socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        running: dict[int, asyncio.Task[None]] = {}

        async def send(frame: FromWorker) -> None:
            writer.write(encode(frame))
            await writer.drain()

        stream = client_stream()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(65536):
                for frame in stream.feed(data):
                    match frame:
                        case Hello():
                            await send(_info())
                        case Submit():
                            self.submits.append(frame)
                            task = asyncio.ensure_future(self.answer(Turn(frame, send)))
                            running[frame.id] = task
                            self._tasks.add(task)
                        case Cancel(id=identifier):
                            running[identifier].cancel()
                            self.cancelled.put_nowait(identifier)
        for task in running.values():
            task.cancel()
        writer.close()
        self.hung_up.put_nowait(len(self.connections))


def _info() -> Info:
    return Info(
        version=VERSION,
        name="fake",
        digest="0" * 64,
        context=4096,
        cells=8192,
        slots=16,
        vocabulary=1000,
        chat=True,
        parameters=1,
        model="fake",
        build="fake",
        pid=os.getpid(),
    )


@contextlib.asynccontextmanager
async def fake_engine(socket: Path, answer: Answer = echo) -> AsyncIterator[FakeEngine]:
    """Run a fake engine for the length of the block."""
    engine = FakeEngine(socket, answer)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.die()
