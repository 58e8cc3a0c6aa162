"""Connections, and how frames are written to them.

A frame is written by the thread that has it, as far as the socket takes it; what a socket does not take at once waits
for one thread. Invariant: a client that does not read costs little more than `LARGEST_BACKLOG` bytes, and one that
reads slowly than `_MOST_WAITING`: then its connection is shut down, and the reader's end of file cancels its requests.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from typing import Any, Final

from appliance.engine.frames import FrameStream, FromWorker, ToWorker, client_stream, encode

LARGEST_BACKLOG: Final = 4 * 1024 * 1024
"""Bytes that wait for a client that has taken none for `_PATIENCE` seconds."""
_PATIENCE: Final = 1.0
_MOST_WAITING: Final = 64 * 1024 * 1024
"""Bytes that wait for a client at all."""
_LAST_WORDS_SECONDS: Final = 2.0


class Connection:
    """One client. The reader adds to `requests`, the engine takes out, the emitter owns `outgoing`.

    `prepared` are requests that the engine does not know yet, and whether they were cancelled meanwhile; the reader's.
    """

    __slots__ = ("dead", "outgoing", "prepared", "read_at", "requests", "socket", "stream")

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self.socket = accepted
        self.stream: FrameStream[ToWorker] = client_stream()
        self.requests: dict[int, Any] = {}  # what the worker's own kind of request is
        self.prepared: dict[int, bool] = {}
        self.outgoing = bytearray()
        self.read_at = 0.0  # when it last took something, of what it did not take at once
        self.dead = False


class Emitter(threading.Thread):
    """Sends frames in the order in which they were handed over. The thread writes what had to wait."""

    def __init__(self) -> None:
        super().__init__(name="emitter", daemon=True)
        self._lock = threading.Lock()
        """held for all that writes, blocks or closes"""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._blocked: set[Connection] = set()
        self._deadline: float | None = None

    def send(self, connection: Connection, frame: FromWorker) -> None:
        """Write one frame, or leave it to be written behind those that wait; from any thread. Never blocks."""
        data = encode(frame)
        with self._lock:
            if connection.dead:
                return
            connection.outgoing += data
            if connection not in self._blocked:
                self._write(connection)
            elif _is_lost(connection):
                self._give_up(connection)

    def close(self, connection: Connection) -> None:
        """Close a connection, whatever still waits for it; from the reader, which no longer uses it."""
        with self._lock:
            connection.dead = True
            self._unblock(connection)
            connection.socket.close()

    def finish(self) -> None:
        """Write what waits, within a short time, and end the thread."""
        self._deadline = time.monotonic() + _LAST_WORDS_SECONDS
        os.eventfd_write(self._bell, 1)
        self.join()

    def run(self) -> None:
        """The thread."""
        while self._deadline is None or (self._blocked and time.monotonic() < self._deadline):
            for key, _ in self._selector.select(0.1 if self._deadline else None):
                with self._lock:
                    if key.data is None:
                        os.eventfd_read(self._bell)
                    elif key.data in self._blocked:
                        self._write(key.data)

    def _write(self, connection: Connection) -> None:
        try:
            while connection.outgoing:
                sent = connection.socket.send(connection.outgoing)
                del connection.outgoing[:sent]
        except BlockingIOError:
            connection.read_at = time.monotonic()
            if connection not in self._blocked:
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


def _is_lost(connection: Connection) -> bool:
    """Whether more waits for a client than is kept for it."""
    waiting = len(connection.outgoing)
    stands = waiting > LARGEST_BACKLOG and time.monotonic() - connection.read_at > _PATIENCE
    return stands or waiting > _MOST_WAITING
