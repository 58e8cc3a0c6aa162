"""Notices that a client hung up while its answer is being made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from appliance.gateway.engine_link import Exchange
from appliance.gateway.inlet import Receive


@contextlib.asynccontextmanager
async def watched(receive: Receive, exchange: Exchange) -> AsyncIterator[None]:
    """Tell the exchange when the client hangs up."""
    watch = asyncio.ensure_future(_until_disconnect(receive))
    watch.add_done_callback(lambda done: None if done.cancelled() else exchange.hang_up())
    try:
        yield
    finally:
        watch.cancel()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
