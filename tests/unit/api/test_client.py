from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.api import calls
from appliance.api import types as t
from appliance.api.client import AsyncClient, Client
from appliance.kernel.errors import InternalError, NotFound, Unavailable
from tests.unit.api.conftest import Api

ME = b'{"user": "a", "uid": 1, "roles": []}'
# The HTTP library leaves the socket of a refused connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@contextmanager
def answering(path: Path, answers: Sequence[bytes], *, after: float = 0.0) -> Iterator[list[bytes]]:
    """A server that gives each connection the next answer as raw bytes; yields the requests it got."""
    requests: list[bytes] = []

    def serve() -> None:
        time.sleep(after)  # the daemon is being restarted
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    requests.append(_received(connection))
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield requests
    thread.join(10)


def _received(connection: socket.socket) -> bytes:
    """Read one request, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    length = re.search(rb"content-length: (\d+)", data.lower())
    while len(data.partition(b"\r\n\r\n")[2]) < (int(length[1]) if length else 0):
        data += connection.recv(1 << 16)
    return data


def http(body: bytes, *, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


def test_nobody_there_is_unavailable_and_says_what_to_do(tmp_path: Path) -> None:
    with Client(tmp_path / "absent.sock", patience=0.0) as client, pytest.raises(Unavailable) as raised:
        client.send(calls.whoami())
    assert raised.value.code == "api.not_running"
    assert "intramuros up" in raised.value.hint
    assert "storage status" not in raised.value.hint


def test_where_no_state_directory_is_the_data_may_be_locked(tmp_path: Path) -> None:
    with Client(tmp_path / "state" / "absent.sock", patience=0.0) as client, pytest.raises(Unavailable) as raised:
        client.send(calls.whoami())
    assert "intramuros storage status" in raised.value.hint


def test_a_daemon_that_is_being_restarted_is_waited_for(tmp_path: Path) -> None:
    with answering(tmp_path / "s", [http(ME)], after=0.3), Client(tmp_path / "s", patience=10) as client:
        assert client.send(calls.whoami()).user == "a"


@pytest.mark.parametrize("broken", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"])
def test_an_answer_that_broke_off_is_asked_for_again(tmp_path: Path, broken: bytes) -> None:
    body = t.Deploy(model="a@1", request_id="r1")
    done = http(b'{"code": "model.unknown", "message": "No.", "exit_code": 3}', status="404 Not Found")
    with (
        answering(tmp_path / "s", [broken, done]) as requests,
        Client(tmp_path / "s", patience=10) as client,
        pytest.raises(NotFound),
    ):
        client.send(calls.deploy("chat", body))
    assert len(requests) == 2
    assert all(b'"request_id":"r1"' in request for request in requests)


def test_an_answer_without_a_reason_is_a_defect(tmp_path: Path) -> None:
    answer = http(b"<html>", status="502 Bad Gateway")
    with (
        answering(tmp_path / "s", [answer]),
        Client(tmp_path / "s", patience=0.0) as client,
        pytest.raises(InternalError) as raised,
    ):
        client.send(calls.whoami())
    assert raised.value.code == "api.answer"
    assert "502" in raised.value.message


async def test_the_asynchronous_client_does_the_same(tmp_path: Path) -> None:
    with answering(tmp_path / "s", [b"", http(ME)], after=0.2):
        client = AsyncClient(tmp_path / "s", patience=10)
        assert (await client.send(calls.whoami())).user == "a"
        await client.aclose()
    nobody = AsyncClient(tmp_path / "absent", patience=0.0)
    with pytest.raises(Unavailable):
        await nobody.send(calls.whoami())
    await nobody.aclose()


def test_one_connection_serves_many_calls(api: Api) -> None:
    with api.client() as client:
        assert client.send(calls.models()) == ()
        assert client.send(calls.status()).models == 0
        with pytest.raises(NotFound):
            client.send(calls.model("x"))
        assert client.send(calls.keys()) == ()
