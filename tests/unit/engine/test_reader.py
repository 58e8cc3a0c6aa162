"""The reader alone: what a request may set off in our own code."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.engine.frames import Detokenise, Encode, Failed, Info, Submit, Tokenise
from appliance.engine.outbox import Connection, Emitter
from appliance.engine.reader import Reader
from appliance.engine.worker_socket import listen_at
from tests.factories.engine_client import connected


class Desk:
    """An engine that nothing reaches."""

    waiting_time = 0.0

    def __init__(self) -> None:
        self.forgotten = threading.Event()

    def cancel(self, connection: Connection, number: int) -> None:
        raise AssertionError(number)

    def forget(self, connection: Connection) -> None:
        connection.socket.close()
        self.forgotten.set()

    def report(self, connection: Connection, connections: int) -> None:
        raise AssertionError(connections)

    def drain(self) -> None:
        return

    def stop(self) -> None:
        return


class Faulty(Reader):
    """Fails over every request, as a defect would."""

    def _work(self, connection: Connection, frame: Submit | Encode) -> None:
        raise OverflowError(f"{frame} is too large")

    def _convert(self, connection: Connection, ask: Tokenise | Detokenise) -> None:
        raise RecursionError(str(ask))


def test_a_defect_over_one_request_ends_neither_the_reader_nor_tells_its_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emitter = Emitter()
    emitter.start()
    counts = dict.fromkeys(("version", "context", "cells", "slots", "vocabulary", "parameters", "pid"), 1)
    info = Info(**counts, name="m", digest="d", chat=False, model="", build="")  # type: ignore[arg-type]
    desk, listener = Desk(), listen_at(tmp_path / "engine")
    reader = Faulty(
        listener=listener,
        engine=desk,
        emitter=emitter,
        info=info,
        most_open=4,
        drain_timeout=1.0,
    )
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        with connected(tmp_path / "engine") as client:
            asks: tuple[Submit | Tokenise, ...] = (
                Submit(id=1, tenant="t", prompt="a secret"),
                Tokenise(id=2, prompt="a secret"),
            )
            for number, frame in enumerate(asks, 1):
                client.send(frame)
                (failed,) = client.receive()
                assert isinstance(failed, Failed)
                assert (failed.id, failed.code, failed.retryable) == (number, "engine.request_defect", False)
                assert "secret" not in failed.message
        assert desk.forgotten.wait(10)
    finally:
        reader.engine_ended()
        thread.join()
        emitter.finish()
        listener.close()
    assert "OverflowError in _work" in (told := capsys.readouterr().err)
    assert "secret" not in told
