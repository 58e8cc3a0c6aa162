"""One HTTP/1.1 connection: uvicorn's parser with the guards that an open port needs.

uvicorn bounds neither the time nor the size of a request's head, and waits for ever for a client that does not read.
Here the head must be complete within `HEAD_SECONDS` and `HEAD_BYTES`, a client that leaves a full send buffer unread
for `slow_client_timeout` is cut, and the number of connections is bounded. What the guards cannot see: a client that
sends its body slowly (`inlet` has a deadline for that) and one that reads just fast enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from appliance.gateway.refusals import bad_request

HEAD_SECONDS: Final = 10.0
HEAD_BYTES: Final = 64 << 10
MAX_CONNECTIONS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What a connection asks and tells. `slow_client_timeout` is asked each time: the table may have changed."""

    slow_client_timeout: Callable[[], float]
    on_open: Callable[[], None]
    on_slow_client: Callable[[], None]
    head_seconds: float = HEAD_SECONDS


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's httptools protocol, guarded."""

    def __init__(self, config: Config, server_state: ServerState, guards: Guards) -> None:
        super().__init__(config=config, server_state=server_state, app_state={})
        self._guards = guards
        self._head_timer: asyncio.TimerHandle | None = None
        self._slow_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._guards.on_open()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_slow_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # counted in whole reads: what follows the head in the same read was accepted with it
        if self._in_head and self._head_bytes > HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._slow_timer is None:
            self._slow_timer = self.loop.call_later(self._guards.slow_client_timeout(), self._cut_slow_client)

    def resume_writing(self) -> None:
        self._stop_slow_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        body = bad_request("This is not a valid HTTP/1.1 request.").document()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d"
        self.transport.write((head % len(body)) + b"\r\n\r\n" + body)
        self.transport.close()

    def _await_head(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._guards.head_seconds, self._cut_slow_head)

    def _cut_slow_head(self) -> None:
        self._head_timer = None
        self.transport.abort()

    def _cut_slow_client(self) -> None:
        self._slow_timer = None
        self._guards.on_slow_client()
        self.transport.abort()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_slow_timer(self) -> None:
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = None
