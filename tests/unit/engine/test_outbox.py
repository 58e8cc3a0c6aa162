from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.engine import outbox
from appliance.engine.frames import FromWorker, Piece, Step, worker_stream
from appliance.engine.outbox import LARGEST_BACKLOG, Connection, Emitter

LARGE = Step(items=(Piece(id=1, text="x" * (2 * LARGEST_BACKLOG), tokens=0),))


@contextmanager
def emitting() -> Iterator[tuple[Emitter, Connection, socket.socket]]:
    emitter = Emitter()
    emitter.start()
    client, accepted = socket.socketpair()
    client.settimeout(20)
    connection = Connection(accepted)
    try:
        yield emitter, connection, client
    finally:
        emitter.finish()
        client.close()
        accepted.close()


def test_a_client_that_reads_gets_frames_of_any_size() -> None:
    with emitting() as (emitter, connection, client):
        frames: list[FromWorker] = []

        def read() -> None:
            stream = worker_stream()
            while len(frames) < 3:
                frames.extend(stream.feed(client.recv(1 << 16)))

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(3):
            emitter.send(connection, LARGE)
        reader.join(20)
        assert frames == [LARGE] * 3
        assert not connection.dead


def test_a_client_that_reads_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    with emitting() as (emitter, connection, client):
        emitter.send(connection, LARGE)
        monkeypatch.setattr(outbox, "_PATIENCE", 0.05)
        time.sleep(0.1)
        emitter.send(connection, LARGE)
        assert connection.dead
        assert not connection.outgoing
        while client.recv(1 << 20):
            pass  # what it had been sent, and then the end


def test_no_client_makes_the_engine_keep_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_MOST_WAITING", 3 * LARGEST_BACKLOG)
    with emitting() as (emitter, connection, _):
        emitter.send(connection, LARGE)
        assert not connection.dead
        emitter.send(connection, LARGE)
        assert connection.dead
