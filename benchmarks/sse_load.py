"""A client for streamed completions, cheap enough not to be what is measured.

Speaks HTTP/1.1 on raw asyncio streams, with TLS or without, the same code for both sides of a comparison. Times are
seconds; tokens are what the server counted.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

_RETRYABLE: Final = frozenset({"engine_unavailable", "model_not_loaded", "rate_limit_exceeded"})
"""codes of error events that end a stream, after which a client may send the same request again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send completions and what to add to each request."""

    port: int
    model: str
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    chat: bool = False
    """whether prompts go as messages to /v1/chat/completions"""
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One finished stream. Events have the times at which they came, on `time.perf_counter`."""

    tokens: int
    prompt_tokens: int
    begun: float
    events: tuple[float, ...]
    cached_tokens: int = 0

    @property
    def first(self) -> float:
        """From sending the request to the first event."""
        return self.events[0] - self.begun

    @property
    def whole(self) -> float:
        """From sending the request to the last event."""
        return self.events[-1] - self.begun

    def longest_gap(self, begin: float, end: float) -> float:
        """The longest wait between two events that lies at least partly between two times."""
        gaps = [after - before for before, after in pairwise(self.events) if after >= begin and before <= end]
        return max(gaps, default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a number of streams did together."""

    tokens: int
    seconds: float
    answers: tuple[Answer, ...]

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


class Refused(RuntimeError):
    """The server did not answer with a whole stream. `retryable`: it said that the same request may succeed later."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


async def run_load(target: Target, prompts: Sequence[str], *, streams: int, max_tokens: int) -> Load:
    """Send all prompts over `streams` connections, each its share one after the other: a closed loop."""
    begun = time.perf_counter()
    shares = [prompts[index::streams] for index in range(streams)]
    parts = await asyncio.gather(*(_stream(target, share, max_tokens) for share in shares))
    seconds = time.perf_counter() - begun
    answers = tuple(answer for part in parts for answer in part)
    return Load(tokens=sum(answer.tokens for answer in answers), seconds=seconds, answers=answers)


async def complete(target: Target, prompt: str, *, max_tokens: int, started: asyncio.Event | None = None) -> Answer:
    """Send one prompt and read its stream to the end; `started` is set by the first event. Raises Refused."""
    reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls)
    try:
        begun = time.perf_counter()
        writer.write(_request(target, prompt, max_tokens))
        status = await reader.readline()
        if b" 200 " not in status:
            body = (await reader.read(4096)).decode(errors="replace")
            head = f"\r\n{body}".partition("\r\n\r\n")[0].lower()
            raise Refused(f"{status.decode().strip()}: {body[-500:]}", retryable="retry-after:" in head)
        while (await reader.readline()) not in (b"\r\n", b""):
            pass
        events: list[float] = []
        usage: dict[str, Any] = {}
        # Chunk sizes and empty lines are skipped unread: only lines of events begin with "data:".
        while line := await reader.readline():
            if not line.startswith(b"data:"):
                continue
            if line.startswith(b"data: [DONE]"):
                break
            if line.startswith(b'data: {"error"'):
                error = json.loads(line[5:])["error"]
                raise Refused(f"{error['code']}: {error['message']}", retryable=error["code"] in _RETRYABLE)
            events.append(time.perf_counter())
            if started is not None:
                started.set()
            if b'"usage":{' in line or b'"usage": {' in line:
                usage = json.loads(line[5:])["usage"]
        if not usage:
            raise Refused("The stream ended without a count of its tokens.")
        return Answer(
            tokens=int(usage["completion_tokens"]),
            prompt_tokens=int(usage["prompt_tokens"]),
            begun=begun,
            events=tuple(events),
            cached_tokens=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)),
        )
    finally:
        writer.close()


async def _stream(target: Target, prompts: Sequence[str], max_tokens: int) -> list[Answer]:
    return [await complete(target, prompt, max_tokens=max_tokens) for prompt in prompts]


def _request(target: Target, prompt: str, max_tokens: int) -> bytes:
    document = {
        "model": target.model,
        **({"messages": [{"role": "user", "content": prompt}]} if target.chat else {"prompt": prompt}),
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        **target.extra,
    }
    body = json.dumps(document).encode()
    headers = {
        "Host": target.host,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **target.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    path = "/v1/chat/completions" if target.chat else "/v1/completions"
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
