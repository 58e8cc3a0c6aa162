"""The fake appliance over a Unix socket, for the real console process: `python -m tests.console.fake_server PATH`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from appliance.api.types import Problem
from appliance.kernel.errors import IntramurosError
from tests.console.fake_client import FakeAppliance


async def serve(socket: Path, appliance: FakeAppliance, ready: asyncio.Event | None = None) -> None:
    """Answer until cancelled."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not reader.at_eof():
                await _answer((await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer, appliance)
        writer.close()

    server = await asyncio.start_unix_server(connection, path=str(socket))
    if ready is not None:
        ready.set()
    async with server:
        await server.serve_forever()


async def _answer(
    head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, appliance: FakeAppliance
) -> None:
    method, target, _ = head.split("\r\n", 1)[0].split(" ")
    headers = {name.lower(): value for name, _, value in (row.partition(": ") for row in head.split("\r\n")[1:])}
    if length := int(headers.get("content-length", 0)):
        await reader.readexactly(length)
    path = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(path.query).items()}
    if float(query.get("hold", 0)) > 0:
        await reader.read(1)  # held until the client gives up
        return
    try:
        status, told = "200 OK", appliance.answer(method, path.path, query)
    except IntramurosError as error:
        status = f"{error.http_status} Refused"
        told = Problem(code=error.code, message=error.message, hint=error.hint, exit_code=error.exit_code)
    body = msgspec.json.encode(told)
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), FakeAppliance(empty="--empty" in sys.argv)))
