"""Writes one HTTP answer through ASGI: whole, or as a stream of server-sent events sent without a framework between.

Every answer carries `X-Request-Id`. The status goes into the visit when it goes onto the wire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from appliance.gateway.observe import Visit
from appliance.gateway.refusals import Refusal

Send = Callable[[Any], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
_CLOSE: Final = (b"connection", b"close")


class Reply:
    """The answer to one request."""

    __slots__ = ("_send", "_visit", "started")

    def __init__(self, send: Send, visit: Visit) -> None:
        self._send = send
        self._visit = visit
        self.started = False

    async def json(self, document: bytes, *, status: int = 200, headers: HeaderList | None = None) -> None:
        """Send a whole JSON document."""
        await self._head(status, [_JSON, (b"content-length", b"%d" % len(document)), *(headers or [])])
        await self._send({"type": "http.response.body", "body": document, "more_body": False})

    async def refuse(
        self, refusal: Refusal, *, close: bool = False, before_end: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Send an error document; `before_end` runs when the client can read it and the connection still stands."""
        headers: HeaderList = [(b"retry-after", b"%d" % refusal.retry_after)] if refusal.retry_after else []
        if close:
            headers.append(_CLOSE)
        if refusal.allow:
            headers.append((b"allow", refusal.allow.encode()))
        document = refusal.document()
        self._visit.code = refusal.code
        await self._head(refusal.status, [_JSON, (b"content-length", b"%d" % len(document)), *headers])
        await self._send({"type": "http.response.body", "body": document, "more_body": True})
        if before_end is not None:
            await before_end()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def start_stream(self) -> None:
        """Send the head of an event stream."""
        await self._head(200, list(_EVENTS))

    async def stream(self, events: bytes) -> None:
        """Send one or more events; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def end_stream(self, events: bytes) -> None:
        """Send the last events and end the answer."""
        if not self.started:
            await self.start_stream()
        await self._send({"type": "http.response.body", "body": events, "more_body": False})

    async def _head(self, status: int, headers: HeaderList) -> None:
        self.started = True
        self._visit.status = status
        headers.append((b"x-request-id", self._visit.id.encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
