"""The console's one way to the appliance: sends calls, knows who we are, and whether the service answers.

It never retries a change by itself, keeps no data of any screen, and raises nothing but IntramurosError: this is
the console's border, so that a defect shows as one line instead of ending the console.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar, cast

import msgspec

from appliance.api import calls
from appliance.api.calls import Call
from appliance.api.types import WhoAmI
from appliance.kernel.errors import InternalError, IntramurosError, Unavailable

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds a call keeps knocking while the service restarts; then the banner says so."""
_SILENT = ("api.not_running", "api.timeout")


class Sender(Protocol):
    """What the session needs of a client; the tests implement it in memory."""

    async def send(self, call: Call[T]) -> T:
        """Return the answer or raise an IntramurosError."""

    async def aclose(self) -> None:
        """Close every connection."""


Connect = Callable[[], Awaitable[Sender]]


class Session:
    """One person at one console."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sender: Sender | None = None
        self.who: WhoAmI | None = None
        self.version = ""
        self.lost: IntramurosError | None = None
        """the last error, while the service does not answer"""

    @property
    def roles(self) -> frozenset[str]:
        """The caller's roles as the server sees them; empty until it has said so."""
        return frozenset(self.who.roles) if self.who else frozenset()

    async def send(self, call: Call[T]) -> T:
        """Return the answer. Raises IntramurosError only, and keeps `lost` true to the facts."""
        try:
            if self._sender is None:
                self._sender = await self._connect()
            answer = await self._sender.send(call)
        except IntramurosError as error:
            self.lost = error if isinstance(error, Unavailable) and error.code in _SILENT else None
            raise
        except msgspec.MsgspecError as error:
            raise InternalError(
                "console.answer",
                f"The appliance answered {call.path} in a form this console does not know.",
                hint="Console and appliance are of different releases: leave the console and start it again.",
            ) from error
        except Exception as error:  # the console's border
            raise InternalError("console.defect", f"{type(error).__name__} while asking {call.path}.") from error
        self.lost = None
        return answer

    async def greet(self) -> None:
        """Learn who we are and what answers, once per connection."""
        if self.who is None or not self.version:
            self.who = await self.send(calls.whoami())
            self.version = (await self.send(calls.status())).version

    async def close(self) -> None:
        """Close the connection."""
        if self._sender is not None:
            await self._sender.aclose()


def over_socket(socket: Path) -> Connect:
    """Connect to the control socket. The HTTP client is imported off the event loop, after the first paint."""

    async def connect() -> Sender:
        client = await asyncio.to_thread(importlib.import_module, "appliance.api.client")
        return cast(Sender, client.AsyncClient(socket, patience=PATIENCE))

    return connect
