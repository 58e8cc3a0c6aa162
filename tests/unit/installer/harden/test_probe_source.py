"""Where the proof of a new login comes from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput
from installer.harden.probe_source import (
    PORT_RANGES,
    Session,
    choose_ports,
    choose_source,
    parse_session,
    session_of_caller,
)

_SESSION = Session(client="192.0.2.7", client_port=50000, server="192.0.2.1", server_port=22)


def test_configured_address_wins_over_the_session() -> None:
    assert choose_source(configured="198.51.100.9", session=_SESSION, admin_networks=(), own=()) == "198.51.100.9"


def test_session_wins_over_the_networks() -> None:
    chosen = choose_source(configured="", session=_SESSION, admin_networks=("198.51.100.0/24",), own=("192.0.2.1",))
    assert chosen == "192.0.2.7"


def test_first_host_that_is_not_the_box_itself() -> None:
    networks = ("192.0.2.0/24",)
    assert choose_source(configured="", session=None, admin_networks=networks, own=("192.0.2.1",)) == "192.0.2.2"


def test_single_address_and_ipv6_networks() -> None:
    assert choose_source(configured="", session=None, admin_networks=("192.0.2.9",), own=()) == "192.0.2.9"
    assert choose_source(configured="", session=None, admin_networks=("2001:db8::/64",), own=()) == "2001:db8::1"


def test_session_over_the_loopback_says_nothing_of_the_administrator() -> None:
    session = Session(client="127.0.0.1", client_port=1, server="127.0.0.1", server_port=22)
    assert choose_source(configured="", session=session, admin_networks=("192.0.2.0/24",), own=()) == "192.0.2.1"


@pytest.mark.parametrize("configured", ["nonsense", "192.0.2.1"])
def test_unusable_configured_address_is_refused_by_name(configured: str) -> None:
    with pytest.raises(BadInput, match=configured):
        choose_source(configured=configured, session=_SESSION, admin_networks=(), own=("192.0.2.1",))


def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(BadInput, match="No address of an administrator"):
        choose_source(configured="", session=None, admin_networks=("192.0.2.1/32",), own=("192.0.2.1",))


def test_ipv4_within_ipv6_is_ipv4() -> None:
    session = parse_session("::ffff:192.0.2.7 50000 ::ffff:192.0.2.1 22")
    assert session == _SESSION


@pytest.mark.parametrize("text", ["", "192.0.2.7 50000 192.0.2.1", "a b c d", "192.0.2.7 x 192.0.2.1 22"])
def test_other_text_is_no_session(text: str) -> None:
    assert parse_session(text) is None


def test_session_is_found_in_a_parent_because_sudo_drops_it(tmp_path: Path) -> None:
    _process(tmp_path, 30, parent=20, environment=b"PATH=/bin\0")
    _process(tmp_path, 20, parent=10, environment=b"HOME=/root\0")
    _process(tmp_path, 10, parent=1, environment=b"SSH_CONNECTION=192.0.2.7 50000 192.0.2.1 22\0TERM=x\0")
    assert session_of_caller(30, tmp_path) == _SESSION


def test_no_session_at_the_console(tmp_path: Path) -> None:
    _process(tmp_path, 30, parent=1, environment=b"TERM=linux\0")
    assert session_of_caller(30, tmp_path) is None
    assert session_of_caller(99, tmp_path) is None


def test_port_range_avoids_present_sessions() -> None:
    assert choose_ports(()) == PORT_RANGES[0]
    assert choose_ports((61050,)) == PORT_RANGES[1]
    assert choose_ports((61000, 62100)) == PORT_RANGES[2]


def _process(proc: Path, pid: int, *, parent: int, environment: bytes) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "environ").write_bytes(environment)
    (folder / "stat").write_text(f"{pid} (a) name) S {parent} {os.getpid()} 0")
