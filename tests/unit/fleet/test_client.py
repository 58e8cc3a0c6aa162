"""What a box's answer is taken for: this end does not know what answers on the other."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.fleet.client import RankHostClient
from appliance.kernel.errors import Conflict, Unavailable


class _Answers(socketserver.ThreadingUnixStreamServer):
    """Gives one answer to everything, as a rank host of any version might."""

    said = b""
    asked = 0


class _Answer(socketserver.StreamRequestHandler):
    server: _Answers

    def handle(self) -> None:
        self.rfile.readline()
        self.server.asked += 1
        self.wfile.write(self.server.said)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[_Answers]:
    with _Answers(str(tmp_path / "beta.sock"), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _said(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


def test_a_box_with_another_version_is_not_waited_for(other: _Answers, tmp_path: Path) -> None:
    other.said = _said("200 OK", b'{"name": "beta"}')
    with RankHostClient("beta", tmp_path / "beta.sock", patience=60.0) as client, pytest.raises(Conflict) as refused:
        client.facts()
    assert refused.value.code == "fleet.other_form"
    assert "beta" in refused.value.message
    assert other.asked == 1


@pytest.mark.parametrize("said", [b"", _said("502 Bad Gateway", b"<html>")])
def test_what_is_no_answer_of_a_rank_host_is_nobody(other: _Answers, tmp_path: Path, said: bytes) -> None:
    other.said = said
    with RankHostClient("beta", tmp_path / "beta.sock", patience=0.0) as client, pytest.raises(Unavailable) as refused:
        client.facts()
    assert refused.value.code == "fleet.unreachable"


def test_a_box_without_a_socket_is_asked_again_until_patience_ends(tmp_path: Path) -> None:
    with RankHostClient("beta", tmp_path / "beta.sock", patience=0.3) as client, pytest.raises(Unavailable):
        client.facts()
