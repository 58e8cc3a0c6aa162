"""Two ways to send a `Call`: synchronously for the CLI, asynchronously for the console. Neither knows any verb.

While the daemon is being restarted its socket is missing or refuses: a call is repeated until `patience` is
used up. A change whose answer was lost is asked for again: deployments are recognised by their request id, runs,
registrations, promotions and approvals by their content. The others leave no harm, but a trace: an import, a backup
or a key (whose secret nobody ever saw) is there twice, and what was already cancelled, resumed, revoked or removed
is refused with that very reason.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec

from appliance.api.calls import Call
from appliance.kernel.errors import Forbidden, InternalError, IntramurosError, Unavailable
from appliance.kernel.problem import Problem, error_of

T = TypeVar("T")

_PAUSE = 0.1
_MARGIN = 30.0
_RETRIED = (httpx2.ConnectError, httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)


class Client:
    """Synchronous client; use as a context manager."""

    def __init__(self, socket: Path, *, patience: float = 10.0) -> None:
        self._socket = socket
        self._patience = patience
        self._http = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket)), base_url="http://appliance")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Return the answer. Raises the server's own error, or Unavailable when nobody answers."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                _require_there(self._socket)
                response = self._http.request(**_arguments(call))
            except _RETRIED as error:
                if time.monotonic() > deadline:
                    raise _nobody(self._socket) from error
                time.sleep(_PAUSE)
                continue
            except httpx2.TimeoutException as error:
                raise _timed_out(call) from error
            return _answer(call, response)


class AsyncClient:
    """Asynchronous client; close it with `aclose`."""

    def __init__(self, socket: Path, *, patience: float = 10.0) -> None:
        self._socket = socket
        self._patience = patience
        self._http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(socket)), base_url="http://appliance"
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Return the answer. Raises the server's own error, or Unavailable when nobody answers."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                _require_there(self._socket)
                response = await self._http.request(**_arguments(call))
            except _RETRIED as error:
                if time.monotonic() > deadline:
                    raise _nobody(self._socket) from error
                await asyncio.sleep(_PAUSE)
                continue
            except httpx2.TimeoutException as error:
                raise _timed_out(call) from error
            return _answer(call, response)


def _require_there(socket: Path) -> None:
    """Raise ConnectError while there is no socket: the library would leave its own end open, once for each try."""
    if not socket.exists():
        raise httpx2.ConnectError(f"{socket} does not exist")


def _arguments(call: Call[T]) -> dict[str, Any]:
    content = msgspec.json.encode(call.body) if call.body is not None else None
    return {
        "method": call.method,
        "url": call.path,
        "content": content,
        "timeout": call.wait + _MARGIN,
    }


def _answer(call: Call[T], response: httpx2.Response) -> T:
    if response.is_success:
        return msgspec.json.decode(response.content, type=call.answer)
    raise _problem(response)


def _problem(response: httpx2.Response) -> IntramurosError:
    try:
        return error_of(msgspec.json.decode(response.content, type=Problem))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return InternalError("api.answer", f"The appliance answered HTTP {response.status_code} without a reason.")


def _nobody(socket: Path) -> IntramurosError:
    if socket.exists() and not os.access(socket, os.W_OK):
        return Forbidden(
            "access.socket",
            f"This user may not talk to the appliance ({socket}).",
            hint="Ask an administrator for a role; roles are Unix groups, and a new one counts from the next login.",
        )
    hint = "Start it with `intramuros up`, or name another state directory with --state."
    if not socket.parent.is_dir():
        hint += " On a box with encrypted data, `intramuros storage status` tells whether they are locked."
    return Unavailable("api.not_running", f"No appliance answers on {socket}.", hint=hint)


def _timed_out(call: Call[T]) -> Unavailable:
    return Unavailable("api.timeout", f"{call.method} {call.path} took longer than {call.wait + _MARGIN:.0f} s.")
