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


async def relay(socket: Path, box: Box, port: int) -> asyncio.Server:
    """Listen on `socket` and join each connection with one to the box's rank host."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(box.address, port)
        except (OSError, TimeoutError):
            writer.close()  # whoever asked sees that nobody answers
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, far_writer))
                both.create_task(_pass_on(far_reader, writer))
        finally:
            for side in (writer, far_writer):
                side.close()
                with contextlib.suppress(OSError):
                    await side.wait_closed()

    socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(join, path=socket)
    socket.chmod(shared_mode(socket.parent, private=0o600, shared=0o660))
    return server


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends; the other is told so."""
    with contextlib.suppress(OSError):  # a side that broke off has ended
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
