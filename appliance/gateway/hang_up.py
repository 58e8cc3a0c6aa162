"""Notices that a client hung up while its answer is being made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from appliance.gateway.engine_link import ClientGone, Exchange
from appliance.gateway.inlet import Receive

T = TypeVar("T")


@contextlib.asynccontextmanager
async def watched(receive: Receive, exchange: Exchange) -> AsyncIterator[None]:
    """Tell the exchange when the client hangs up."""
    watch = asyncio.ensure_future(_until_disconnect(receive))
    watch.add_done_callback(lambda done: None if done.cancelled() else exchange.hang_up())
    try:
        yield
    finally:
        watch.cancel()


async def while_listening(receive: Receive, work: Awaitable[T]) -> T:
    """Return what `work` gives. Raises ClientGone, with the work given up, when the client hangs up before."""
    gone = asyncio.ensure_future(_until_disconnect(receive))
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait({gone, doing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        return doing.result()
    finally:
        gone.cancel()
        doing.cancel()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
