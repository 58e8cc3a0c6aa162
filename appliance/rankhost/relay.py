"""Hands connections on: a Unix socket of this box for each other box's rank host.

A job has no network of its own; through these sockets it reaches rank hosts, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from appliance.fleet.inventory import Box
from appliance.kernel.sharing import shared_mode

_PIECE = 1 << 16
_CONNECT_SECONDS = 5.0
_LAST_WORDS_SECONDS = 10.0
"""how long one side may go on when the other has ended"""


async def relay(socket: Path, box: Box, port: int) -> asyncio.Server:
    """Listen on `socket` and join each connection with one to the box's rank host."""
    joined: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_join(reader, writer, box, port), name=f"relay to {box.name}")
        joined.add(task)
        task.add_done_callback(joined.discard)

    socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(begin, path=socket)
    socket.chmod(shared_mode(socket.parent, private=0o600, shared=0o660))
    return server


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, box: Box, port: int) -> None:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            far_reader, far_writer = await asyncio.open_connection(box.address, port)
    except (OSError, TimeoutError):
        writer.close()  # whoever asked sees that nobody answers
        return
    ways = {
        asyncio.create_task(_pass_on(reader, far_writer)),
        asyncio.create_task(_pass_on(far_reader, writer)),
    }
    try:
        _, going_on = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if going_on:
            await asyncio.wait(going_on, timeout=_LAST_WORDS_SECONDS)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for side in (writer, far_writer):
            side.close()
            with contextlib.suppress(OSError):
                await side.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends; the other is told so."""
    with contextlib.suppress(OSError):  # a side that broke off has ended
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
