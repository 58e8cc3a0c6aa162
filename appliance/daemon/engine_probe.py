"""The daemon's own short conversations with an engine: is it there, how busy is it, what does it answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.api.types import TryAnswer
from appliance.engine.frames import (
    Ask,
    Encode,
    Failed,
    Finished,
    FromWorker,
    Hello,
    Info,
    Message,
    Sampling,
    State,
    Step,
    Submit,
    ToWorker,
    encode,
    worker_stream,
)
from appliance.kernel.errors import BadInput, Unavailable

_TENANT = "console"
_NO_TEMPLATE = "engine.no_chat_template"


async def greet(socket: Path, *, timeout: float = 5.0) -> Info | None:
    """Return what the engine says of itself, or None while it does not answer."""
    try:
        async with asyncio.timeout(timeout), _frames(socket, Hello()) as frames:
            async for frame in frames:
                if isinstance(frame, Info):
                    return frame
    except (OSError, TimeoutError):
        return None
    return None


async def load(socket: Path, *, timeout: float = 5.0) -> State | None:
    """Return how busy the engine is, or None when it does not answer."""
    try:
        async with asyncio.timeout(timeout), _frames(socket, Hello(), Ask()) as frames:
            async for frame in frames:
                if isinstance(frame, State):
                    return frame
    except (OSError, TimeoutError):
        return None
    return None


async def prove(socket: Path) -> None:
    """Let the engine generate one token, or encode one word.

    Raises Unavailable, or BadInput for what every client would be told.
    A model without a chat template is served for plain prompts; one whose template is broken is not served.
    """
    info = await greet(socket)
    if info is not None and info.kind != "generate":
        query = "Hello" if info.kind == "rerank" else None
        await _ask(socket, Encode(id=1, tenant=_TENANT, texts=("Hello",), query=query))
        return
    if info is not None and not info.chat:
        try:
            await _ask(socket, _submit("Hello", chat=True, max_tokens=1))
        except BadInput as error:
            if error.code != _NO_TEMPLATE:
                raise
    await answer(socket, prompt="Hello", max_tokens=1)


async def answer(socket: Path, *, prompt: str, max_tokens: int, adapter: str = "", timeout: float = 120.0) -> TryAnswer:
    """Ask one question, greedily, under an adapter or the model as it is. Raises Unavailable or BadInput."""
    info = await greet(socket)
    if info is None:
        raise Unavailable("engine.unreachable", "The engine does not answer.", hint="See `intramuros status`.")
    if info.kind != "generate":
        raise BadInput(
            "deployment.kind",
            f"This deployment is of kind {info.kind}; only those of kind generate answer a prompt.",
            hint="Use the gateway's address for its kind; see the guide to serving.",
        )
    asked = _submit(prompt, chat=info.chat, max_tokens=max_tokens, adapter=adapter)
    return await _ask(socket, asked, timeout=timeout)


def _submit(prompt: str, *, chat: bool, max_tokens: int, adapter: str = "") -> Submit:
    return Submit(
        id=1,
        tenant=_TENANT,
        messages=(Message(role="user", content=prompt),) if chat else None,
        prompt=None if chat else prompt,
        adapter=adapter,
        params=Sampling(max_tokens=max_tokens, temperature=0.0),
    )


async def _ask(socket: Path, submit: Submit | Encode, *, timeout: float = 120.0) -> TryAnswer:
    clock = asyncio.get_running_loop().time
    began = clock()
    first = 0.0
    pieces: list[str] = []
    try:
        async with asyncio.timeout(timeout), _frames(socket, Hello(), submit) as frames:
            async for frame in frames:
                if isinstance(frame, Step):
                    first = first or clock() - began
                    pieces += [piece.text for piece in frame.items if piece.id == 1]
                elif isinstance(frame, Failed):
                    kind = Unavailable if frame.retryable else BadInput
                    raise kind(frame.code, frame.message)
                elif isinstance(frame, Finished):
                    return TryAnswer(
                        text="".join(pieces),
                        prompt_tokens=frame.prompt_tokens,
                        completion_tokens=frame.completion_tokens,
                        ttft=first,
                        total=clock() - began,
                    )
    except (OSError, TimeoutError) as error:
        raise Unavailable("engine.unreachable", "The engine did not answer in time.") from error
    raise Unavailable("engine.gone", "The engine ended in the middle of its answer.", hint="Try again.")


@asynccontextmanager
async def _frames(socket: Path, *first: ToWorker) -> AsyncIterator[AsyncIterator[FromWorker]]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        for frame in first:
            writer.write(encode(frame))
        await writer.drain()
        yield _decoded(reader)
    finally:
        writer.close()


async def _decoded(reader: asyncio.StreamReader) -> AsyncIterator[FromWorker]:
    stream = worker_stream()
    while data := await reader.read(1 << 16):
        for frame in stream.feed(data):
            yield frame
