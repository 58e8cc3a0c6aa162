"""The reader: accepts clients and reads their frames. Runs in the main thread.

Owns connections, the limit on open requests and the two ways to end (drain, stop). Never waits for the engine and
knows nothing of models: what a frame asks for is worked out in a subclass.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from appliance.engine.frames import (
    VERSION,
    Ask,
    Cancel,
    Detokenise,
    Encode,
    Failed,
    FrameError,
    Hello,
    Info,
    Submit,
    Tokenise,
    ToWorker,
)
from appliance.engine.outbox import Connection, Emitter
from appliance.kernel.errors import BadInput, InternalError, IntramurosError, Unavailable

MOST_CONNECTIONS: Final = 128
_RECEIVE: Final = 256 * 1024


class Engine(Protocol):
    """What the reader asks of the thread that computes, whatever it computes."""

    def cancel(self, connection: Connection, number: int) -> None: ...

    def forget(self, connection: Connection) -> None: ...

    def report(self, connection: Connection, connections: int) -> None: ...

    def drain(self) -> None: ...

    def stop(self) -> None: ...

    @property
    def waiting_time(self) -> float:
        """Estimated seconds until a request that came now would start; 0 where nobody can tell."""


class Reader:
    """Serves one listening socket until the engine ends. A subclass turns the frames that ask for work into work."""

    def __init__(
        self,
        *,
        listener: socket.socket,
        engine: Engine,
        emitter: Emitter,
        info: Info,
        most_open: int,
        drain_timeout: float,
    ) -> None:
        self._listener = listener
        self._desk = engine
        self._emitter = emitter
        self._info = info
        self._most_open = most_open
        self._drain_timeout = drain_timeout
        self._connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._inbox: deque[Callable[[], None]] = deque()
        self._terminations = 0
        self._draining = False
        self._stop_at: float | None = None
        self._ended = False

    def terminate(self) -> None:
        """First call: drain. Second call: stop. From a signal handler in this thread."""
        self._terminations += 1
        os.eventfd_write(self._bell, 1)

    def tell(self, act: Callable[[], None]) -> None:
        """Leave something to do to the reader; from other threads."""
        self._inbox.append(act)
        os.eventfd_write(self._bell, 1)

    def engine_ended(self) -> None:
        """The engine thread is about to end; from that thread."""
        self._ended = True
        os.eventfd_write(self._bell, 1)

    def run(self) -> None:
        """Serve until the engine ended."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._bell, selectors.EVENT_READ, self._ring)
        while not self._ended:
            timeout = None if self._stop_at is None else max(0.0, self._stop_at - time.monotonic())
            for key, _ in self._selector.select(timeout):
                if isinstance(key.data, Connection):
                    self._read(key.data)
                else:
                    key.data()
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                self._desk.stop()
                self._stop_at = None

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        while self._inbox:
            self._inbox.popleft()()
        if self._terminations > 1:
            self._desk.stop()
        elif self._terminations and not self._draining:
            self._draining = True
            self._selector.unregister(self._listener)
            self._listener.close()
            self._stop_at = time.monotonic() + self._drain_timeout
        if self._draining and not any(connection.prepared for connection in self._connections):
            self._desk.drain()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return  # the client went away, or no descriptor is left: it will be tried again
        if len(self._connections) >= MOST_CONNECTIONS:
            accepted.close()
            return
        connection = Connection(accepted)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(_RECEIVE)
            if not data:
                self._hang_up(connection)
                return
            for frame in connection.stream.feed(data):
                self._handle(connection, frame)
        except BlockingIOError:
            return
        except (OSError, FrameError):
            self._hang_up(connection)

    def _hang_up(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        self._connections.discard(connection)
        self._desk.forget(connection)
        self._emitter.close(connection)

    def _handle(self, connection: Connection, frame: ToWorker) -> None:
        match frame:
            case Hello(version=version):
                if version != VERSION:
                    raise FrameError("engine.version", f"This worker speaks version {VERSION}, not {version}.")
                self._emitter.send(connection, self._info)
            case Ask():
                self._desk.report(connection, len(self._connections))
            case Cancel(id=number) if number in connection.prepared:
                connection.prepared[number] = True
            case Cancel(id=number):
                self._desk.cancel(connection, number)
            case Submit() | Encode():
                self._begin(connection, frame)
            case Tokenise() | Detokenise():
                self._answer(connection, frame)

    def _begin(self, connection: Connection, frame: Submit | Encode) -> None:
        if frame.id in connection.requests or frame.id in connection.prepared:
            raise FrameError("engine.duplicate_id", f"Request {frame.id} is still open on this connection.")
        try:
            self._check_room()
            self._work(connection, frame)
        except Exception as error:  # noqa: BLE001 - border: what one request sets off must not end the others
            self._fail(connection, frame.id, known(error))

    def _answer(self, connection: Connection, ask: Tokenise | Detokenise) -> None:
        try:
            self._convert(connection, ask)
        except Exception as error:  # noqa: BLE001 - border, as above
            self._fail(connection, ask.id, known(error))

    def _convert(self, connection: Connection, ask: Tokenise | Detokenise) -> None:
        """Answer with `Tokens`. Raises IntramurosError, which becomes the client's `Failed`."""
        raise BadInput("engine.kind", "This worker encodes texts; it tells no tokens.")

    def _work(self, connection: Connection, frame: Submit | Encode) -> None:
        """Put a request to the engine. Raises IntramurosError, which becomes the client's `Failed`."""
        raise NotImplementedError

    def _check_room(self) -> None:
        if self._terminations:
            raise Unavailable("engine.draining", "This engine is being replaced and takes no new requests.")
        opened = (len(connection.requests) + len(connection.prepared) for connection in self._connections)
        if sum(opened) >= self._most_open:
            raise Unavailable("engine.busy", f"{self._most_open} requests are open already.")

    def _fail(self, connection: Connection, number: int, error: IntramurosError) -> None:
        """Tell a client why there is no answer."""
        waiting = self._desk.waiting_time if error.retryable else 0.0
        self._emitter.send(
            connection,
            Failed(id=number, code=error.code, message=error.message, retryable=error.retryable, retry_after=waiting),
        )


def known(error: Exception) -> IntramurosError:
    """Return a client's own error, or say where our code failed over its request; never what the request said."""
    if isinstance(error, IntramurosError):
        return error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {frame.name}:{frame.lineno}"
    print(f"A request failed: {where}.", file=sys.stderr)
    return InternalError("engine.request_defect", f"Preparing this request failed: {where}.")
