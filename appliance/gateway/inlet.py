"""Reads one request's body through ASGI, within a size and a time.

Invariant: never holds more than the limit. What remains unread is discarded for a moment before the connection
closes, because closing on unread bytes resets the connection and the client would never see the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from appliance.gateway.engine_link import ClientGone
from appliance.gateway.refusals import bad_request, body_slow, body_too_large

BODY_SECONDS: Final = 30.0
DISCARD_SECONDS: Final = 2.0
_SHORT: Final = 64 << 10
"""an unread body up to this size is left to the HTTP parser and the connection lives on"""

Receive = Callable[[], Awaitable[Any]]
Headers = list[tuple[bytes, bytes]]


class Inlet:
    """The incoming half of one request."""

    __slots__ = ("_encoded", "_ended", "_length", "receive")

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self.receive = receive
        self._ended = False
        self._length: int | None = 0
        """declared size in bytes; None when it is not known in advance"""
        self._encoded = False
        for name, value in headers:
            if name == b"content-length":
                self._length = int(value)  # the HTTP parser has refused anything but digits
            elif name == b"transfer-encoding":
                self._length = None
            elif name == b"content-encoding":
                self._encoded = value.lower() != b"identity"

    @property
    def long_unread(self) -> bool:
        """Whether more may still come than is worth keeping the connection for."""
        return not self._ended and (self._length is None or self._length > _SHORT)

    async def body(self, limit: int) -> bytes:
        """Return the whole body. Raises Refusal (400, 408, 413) or ClientGone."""
        if self._length is not None and self._length > limit:
            raise body_too_large(limit)
        if self._encoded:
            raise bad_request("A compressed body is not accepted.", param="content-encoding")
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not self._ended:
                    part = await self._next()
                    size += len(part)
                    if size > limit:
                        raise body_too_large(limit)
                    parts.append(part)
        except TimeoutError as error:
            raise body_slow() from error
        return b"".join(parts)

    async def discard(self) -> None:
        """Read and forget what is still coming, for a moment."""
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self._ended:
                    await self._next()
        except (TimeoutError, ClientGone):
            return

    async def _next(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._ended = not message["more_body"]
        part: bytes = message["body"]
        return part
