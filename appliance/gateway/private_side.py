"""The private ASGI application on the Unix socket: metrics and state, for the daemon and the monitoring only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from appliance.gateway.inlet import Receive
from appliance.gateway.reply import Send
from appliance.gateway.state import GatewayState


class PrivateSide:
    """GET /metrics (Prometheus text) and GET /state (GatewayState as JSON)."""

    def __init__(self, *, metrics: Callable[[], Awaitable[bytes]], state: Callable[[], GatewayState]) -> None:
        self._metrics = metrics
        self._state = state

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope["method"], scope["path"]:
            case "GET", "/metrics":
                await _send(send, 200, b"text/plain; version=0.0.4; charset=utf-8", await self._metrics())
            case "GET", "/state":
                await _send(send, 200, b"application/json", msgspec.json.encode(self._state()))
            case _:
                await _send(send, 404, b"application/json", b'{"error":"only GET /metrics and GET /state"}')


async def _send(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
