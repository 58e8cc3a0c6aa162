"""A model that thinks nothing and says when it said it, behind each of two protocols.

    python -m benchmarks.fake_upstream engine SOCKET INTERVAL      the engine's frames on a Unix socket
    python -m benchmarks.fake_upstream openai PORT INTERVAL        OpenAI's streamed chat completions on loopback

Every event's text is the monotonic clock in nanoseconds, in braces, so that whoever reads it knows how long it was on
its way. `INTERVAL` is seconds between two events of a stream, 0 for as fast as they are taken. Streams that run
together speak together, as those of one engine do.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from appliance.engine.frames import (
    VERSION,
    Accepted,
    Ask,
    Finished,
    FromWorker,
    Hello,
    Info,
    Piece,
    Step,
    Submit,
    client_stream,
    encode,
)

_BURST = 0.0005
"""Seconds between two steps without an interval: other tasks get their turn."""


def main(arguments: list[str]) -> int:
    """Serve until killed."""
    protocol, where, interval = arguments
    serve = {"engine": _serve_engine, "openai": _serve_openai}[protocol]
    uvloop.run(serve(where, float(interval)))
    return 0


def stamp() -> str:
    """Now, as an event's text."""
    return f"{{{time.monotonic_ns()}}}"


async def _serve_engine(where: str, interval: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running: dict[int, int] = {}  # request -> tokens it may still get
        wake, limits = asyncio.Event(), dict[int, int]()

        async def speak() -> None:
            while True:
                if not running:
                    wake.clear()
                    await wake.wait()
                await asyncio.sleep(interval or _BURST)
                frames: list[FromWorker] = [
                    Step(items=tuple(Piece(id=number, text=stamp(), tokens=1) for number in running))
                ]
                for number in list(running):
                    running[number] -= 1
                    if not running[number]:
                        del running[number]
                        frames.append(_finished(number, limits.pop(number)))
                writer.write(b"".join(encode(frame) for frame in frames))
                await writer.drain()

        speaker = asyncio.create_task(speak())
        stream = client_stream()
        while data := await reader.read(65536):
            for frame in stream.feed(data):
                match frame:
                    case Hello():
                        writer.write(encode(_info()))
                    case Submit():
                        limits[frame.id] = running[frame.id] = frame.params.max_tokens or 1
                        writer.write(encode(Accepted(id=frame.id, prompt_tokens=1)))
                        wake.set()
                    case Ask():
                        raise SystemExit("this engine has no state")
                    case _:
                        running.pop(getattr(frame, "id", 0), None)
        speaker.cancel()

    server = await asyncio.start_unix_server(connected, where)
    async with server:
        await server.serve_forever()


async def _serve_openai(where: str, interval: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
            )
            request = msgspec.json.decode(await reader.readexactly(length))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(int(request.get("max_tokens") or 1)):
                await asyncio.sleep(interval or _BURST)
                writer.write(_chunk(_event({"content": stamp()}, None)))
                await writer.drain()
            writer.write(_chunk(_event({}, "stop")) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            await writer.drain()

    server = await asyncio.start_server(connected, "127.0.0.1", int(where))
    async with server:
        await server.serve_forever()


def _event(delta: dict[str, str], reason: str | None) -> bytes:
    document: dict[str, Any] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "bench",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }
    if reason:
        document["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _finished(number: int, tokens: int) -> Finished:
    return Finished(
        id=number,
        reason="length",
        prompt_tokens=1,
        completion_tokens=tokens,
        cached_tokens=0,
        queue_seconds=0.0,
        prompt_seconds=0.0,
        generation_seconds=0.0,
    )


def _info() -> Info:
    return Info(
        version=VERSION,
        name="fake",
        digest="0" * 64,
        context=8192,
        cells=8192,
        slots=64,
        vocabulary=2,
        chat=True,
        parameters=1,
        model="fake",
        build="fake",
        pid=Path("/proc/self").stat().st_ino,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
