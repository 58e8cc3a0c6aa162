"""Connections, and the thread that writes to them.

Owns encoding and sending; the engine thread only hands over frames. Invariant: a client that does not read costs
little more than `LARGEST_BACKLOG` bytes: then its connection is shut down, and the reader's end of file cancels its
requests.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections import deque
from typing import Any, Final

from appliance.engine.frames import FrameStream, FromWorker, ToWorker, client_stream, encode

LARGEST_BACKLOG: Final = 4 * 1024 * 1024
_LAST_WORDS_SECONDS: Final = 2.0


class Connection:
    """One client. The reader adds to `requests`, the engine takes out, the emitter owns `outgoing`.

    `prepared` are requests that the engine does not know yet, and whether they were cancelled meanwhile; the reader's.
    """

    __slots__ = ("dead", "outgoing", "prepared", "requests", "socket", "stream")

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self.socket = accepted
        self.stream: FrameStream[ToWorker] = client_stream()
        self.requests: dict[int, Any] = {}  # what the worker's own kind of request is
        self.prepared: dict[int, bool] = {}
        self.outgoing = bytearray()
        self.dead = False


class Emitter(threading.Thread):
    """Sends frames in the order in which they were handed over."""

    def __init__(self) -> None:
        super().__init__(name="emitter", daemon=True)
        self._queue: deque[tuple[Connection, FromWorker | None]] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._blocked: set[Connection] = set()
        self._deadline: float | None = None

    def send(self, connection: Connection, frame: FromWorker) -> None:
        """Queue one frame; from any thread."""
        self._queue.append((connection, frame))
        os.eventfd_write(self._bell, 1)

    def close(self, connection: Connection) -> None:
        """Close a connection after what was queued for it was tried; from the reader, which no longer uses it."""
        self._queue.append((connection, None))
        os.eventfd_write(self._bell, 1)

    def finish(self) -> None:
        """Send what is queued, within a short time, and end the thread."""
        self._deadline = time.monotonic() + _LAST_WORDS_SECONDS
        os.eventfd_write(self._bell, 1)
        self.join()

    def run(self) -> None:
        """The thread."""
        while self._deadline is None or ((self._queue or self._blocked) and time.monotonic() < self._deadline):
            for key, _ in self._selector.select(0.1 if self._deadline else None):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._bell)
                else:
                    self._flush(key.data)
            written: dict[Connection, None] = {}
            while self._queue:
                connection, frame = self._queue.popleft()
                if frame is None:
                    self._close(connection)
                    written.pop(connection, None)
                elif not connection.dead:
                    connection.outgoing += encode(frame)
                    written[connection] = None
            for connection in written:
                self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            while connection.outgoing:
                sent = connection.socket.send(connection.outgoing)
                del connection.outgoing[:sent]
        except BlockingIOError:
            if len(connection.outgoing) > LARGEST_BACKLOG:
                self._give_up(connection)
            elif connection not in self._blocked:
                self._blocked.add(connection)
                self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        except OSError:
            self._give_up(connection)
        else:
            self._unblock(connection)

    def _give_up(self, connection: Connection) -> None:
        """Stop writing to a client; the reader sees the end of file and tidies up."""
        connection.dead = True
        connection.outgoing.clear()
        self._unblock(connection)
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)

    def _unblock(self, connection: Connection) -> None:
        if connection in self._blocked:
            self._blocked.discard(connection)
            self._selector.unregister(connection.socket)

    def _close(self, connection: Connection) -> None:
        connection.dead = True
        self._unblock(connection)
        connection.socket.close()
