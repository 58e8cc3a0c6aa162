"""Client of one engine process: a single connection per deployment revision, shared by all its requests.

Knows frames, nothing of HTTP or of models. The engine may die at any moment: then every request under way gets a
retryable `Failed` and the next request connects anew. A retired link (the routing table moved on) serves the requests
that began on it and closes with the last. Invariant: a request that leaves early is cancelled in the engine.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import msgspec

from appliance.engine.frames import (
    VERSION,
    Accepted,
    Cancel,
    Detokenise,
    Encode,
    Failed,
    Finished,
    FrameError,
    Hello,
    Info,
    Piece,
    Rows,
    Step,
    Submit,
    Tokenise,
    Tokens,
    ToWorker,
    encode,
    worker_stream,
)
from appliance.kernel.errors import Unavailable

CONNECT_SECONDS: Final = 5.0
MOST_HELD: Final = 4 << 20
"""characters of an answer that may wait for its client; an engine's longest answer is far shorter"""
_PIECE: Final = 256
"""what a piece costs besides its text"""

Outcome = Accepted | Piece | Rows | Finished | Failed | Tokens
"""What a request hears of one of its choices, in order; the last is Finished, Failed or Tokens."""


class ClientGone(Exception):
    """The client hung up; nobody waits for the answer."""


class Exchange:
    """The submits of one HTTP request: gathers what the engine says of them until the request takes it.

    All that arrived since the last `take` is handed over at once, so a client that reads slowly costs fewer wake-ups,
    not more. What waits is bounded: a client that lets more than `MOST_HELD` pile up counts as gone.
    """

    __slots__ = ("_gone", "_held", "_outcomes", "_waiter", "ids")

    def __init__(self) -> None:
        self.ids: dict[int, int] = {}
        """frame id -> choice, while the engine works on it"""
        self._outcomes: list[tuple[int, Outcome]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._gone = False
        self._held = 0

    def push(self, choice: int, outcome: Outcome) -> None:
        """Called by the link for each outcome."""
        if self._gone:
            return
        if isinstance(outcome, Piece):
            self._held += len(outcome.text) + _PIECE
            if self._held > MOST_HELD:
                self._outcomes.clear()
                self.hang_up()
                return
        self._outcomes.append((choice, outcome))
        self._wake()

    def hang_up(self) -> None:
        """Called when the client is gone: the next `take` raises ClientGone."""
        self._gone = True
        self._wake()

    async def take(self) -> list[tuple[int, Outcome]]:
        """Wait for news and return all there is, as (choice, outcome). Raises ClientGone."""
        while not (self._outcomes or self._gone):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._gone:
            raise ClientGone
        outcomes, self._outcomes, self._held = self._outcomes, [], 0
        return outcomes

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EngineLink:
    """The gateway's end of one revision's engine."""

    def __init__(self, revision: int, socket: Path) -> None:
        self.revision = revision
        self.socket = socket
        self.active = 0
        """requests between `hold` and `release`"""
        self.used = 0.0
        """when a request last began or ended, epoch seconds"""
        self.retired = False
        self._ids = itertools.count(1)
        self._exchanges: dict[int, Exchange] = {}
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether the engine is on the line now."""
        return self._connection is not None

    def hold(self) -> Exchange:
        """Begin a request on this revision; it stays here whatever becomes of the table."""
        self.active += 1
        self.used = time.time()
        return Exchange()

    def release(self, exchange: Exchange) -> None:
        """End a request: cancel what the engine still works on, close a retired link with its last request."""
        for identifier in exchange.ids:
            self._exchanges.pop(identifier, None)
            if self._connection is not None:
                self._connection.send(Cancel(id=identifier))
        exchange.ids.clear()
        self.active -= 1
        self.used = time.time()
        self._close_if_idle()

    async def info(self) -> Info:
        """What the engine says of itself. Raises Unavailable when it cannot be reached."""
        return (await self._connect()).info.result()

    async def submit(self, exchange: Exchange, frames: Sequence[Submit | Encode | Tokenise | Detokenise]) -> None:
        """Send one frame per choice; each gets its id here. Raises Unavailable when the engine cannot be reached."""
        connection = await self._connect()
        for choice, unnumbered in enumerate(frames):
            identifier = next(self._ids)
            frame = encode(msgspec.structs.replace(unnumbered, id=identifier))
            exchange.ids[identifier] = choice
            self._exchanges[identifier] = exchange
            connection.write(frame)

    def retire(self) -> None:
        """Take no new requests; close when the last one has ended."""
        self.retired = True
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self.retired and self.active == 0 and self._connection is not None:
            self._connection.close()

    async def _connect(self) -> _Connection:
        async with self._connecting:
            if self._connection is None:
                self._connection = await _open(self)
            return self._connection

    def on_step(self, step: Step) -> None:
        """Hand each piece of an engine step to its request; pieces of requests that left are dropped."""
        exchanges = self._exchanges
        for piece in step.items:
            exchange = exchanges.get(piece.id)
            if exchange is not None:
                exchange.push(exchange.ids[piece.id], piece)

    def on_outcome(self, outcome: Accepted | Rows | Finished | Failed | Tokens) -> None:
        """Hand over what concerns one request."""
        exchange = self._exchanges.get(outcome.id)
        if exchange is None:
            return
        choice = exchange.ids[outcome.id]
        if not isinstance(outcome, Accepted | Rows):
            del self._exchanges[outcome.id], exchange.ids[outcome.id]
        exchange.push(choice, outcome)

    def on_lost(self, connection: _Connection) -> None:
        """Tell every request under way that its engine is gone."""
        if self._connection is not connection:
            return
        self._connection = None
        for identifier in list(self._exchanges):
            self.on_outcome(
                Failed(id=identifier, code="engine.gone", message="The engine ended unexpectedly.", retryable=True)
            )


class _Connection(asyncio.Protocol):
    """One socket to the engine; from connect to loss."""

    def __init__(self, link: EngineLink) -> None:
        self.info: asyncio.Future[Info] = asyncio.get_running_loop().create_future()
        self._link = link
        self._stream = worker_stream()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, not a subclass
        self.send(Hello())

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._stream.feed(data)
        except FrameError:
            self.close()  # a peer that does not speak the protocol; `connection_lost` tells the requests
            return
        for frame in frames:
            if isinstance(frame, Step):
                self._link.on_step(frame)
            elif isinstance(frame, Accepted | Rows | Finished | Failed | Tokens):
                self._link.on_outcome(frame)
            elif isinstance(frame, Info) and not self.info.done():
                self.info.set_result(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.info.done():
            self.info.cancel()
        self._link.on_lost(self)

    def send(self, frame: ToWorker) -> None:
        self.write(encode(frame))

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def _open(link: EngineLink) -> _Connection:
    """Connect and exchange greetings within `CONNECT_SECONDS`."""
    loop = asyncio.get_running_loop()
    connection: _Connection | None = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_unix_connection(lambda: _Connection(link), str(link.socket))
            # a cancelled greeting means a lost connection, not that this task was cancelled
            await asyncio.wait({connection.info})
    except (OSError, TimeoutError) as error:
        if connection is not None:
            connection.close()
        raise Unavailable(
            "gateway.engine_unreachable", f"The engine of revision {link.revision} is not there."
        ) from error
    if connection.info.cancelled():
        raise Unavailable("gateway.engine_unreachable", f"The engine of revision {link.revision} hung up.")
    if connection.info.result().version != VERSION:
        connection.close()
        raise Unavailable("gateway.engine_version", f"The engine of revision {link.revision} speaks another version.")
    return connection
