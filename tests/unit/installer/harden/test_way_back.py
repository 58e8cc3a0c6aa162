"""The way back to the administrator, on interfaces of network namespaces: what is refused is what the kernel drops."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence

import pytest

from appliance.kernel import process
from appliance.kernel.errors import Conflict
from appliance.kernel.process import Outcome
from installer.harden.way_back import find_way_back, require_way_back

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip to make network namespaces"
)

_ADMINISTRATOR = "10.9.3.9"
_SERVERS = ("10.9.0.1", "10.9.1.1")
_CONNECT = """import socket, sys
connection = socket.socket()
connection.settimeout(1)
connection.bind((sys.argv[1], 0))
try:
    connection.connect((sys.argv[2], 22))
except ConnectionRefusedError:
    print("answered")
except TimeoutError:
    print("dropped")
"""


def _run(argv: Sequence[str]) -> Outcome:
    return process.run(argv, timeout=20)


class Box:
    """A box with two interfaces, and the administrator's network behind both."""

    def __init__(self, mark: str) -> None:
        self.name, self.other = f"imb{mark}", f"ima{mark}"

    def run(self, argv: Sequence[str]) -> Outcome:
        return _run(["ip", "netns", "exec", self.name, *argv])

    def must(self, namespace: str, words: str) -> None:
        done = _run(["ip", "netns", "exec", namespace, *words.split()])
        assert done.status == 0, f"{words}: {done.stderr}"

    def build(self) -> None:
        for namespace in (self.name, self.other):
            assert _run(["ip", "netns", "add", namespace]).status == 0
            self.must(namespace, "ip link set lo up")
        for number in (0, 1):
            self.must(self.name, f"ip link add e{number} type veth peer name a{number} netns {self.other}")
            self.must(self.name, f"ip address add 10.9.{number}.1/24 dev e{number}")
            self.must(self.other, f"ip address add 10.9.{number}.2/24 dev a{number}")
            self.must(self.name, f"ip link set e{number} up")
            self.must(self.other, f"ip link set a{number} up")
            self.must(self.other, f"sysctl -q -w net.ipv4.conf.a{number}.rp_filter=0")
        self.must(self.other, "sysctl -q -w net.ipv4.conf.all.rp_filter=0")
        self.must(self.other, f"ip address add {_ADMINISTRATOR}/32 dev lo")
        self.must(self.name, "ip route add default via 10.9.0.2")
        for each in ("all", "e0", "e1"):
            self.must(self.name, f"sysctl -q -w net.ipv4.conf.{each}.rp_filter=0")

    def remove(self) -> None:
        for namespace in (self.name, self.other):
            _run(["ip", "netns", "delete", namespace])

    def answers(self, server: str) -> bool:
        """Tell whether a connection from the administrator's address gets any answer, a refusal too."""
        done = _run(["ip", "netns", "exec", self.other, sys.executable, "-c", _CONNECT, _ADMINISTRATOR, server])
        assert done.status == 0, done.stderr
        return done.stdout == "answered\n"


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box(secrets.token_hex(3))
    try:
        made.build()
        yield made
    finally:
        made.remove()


def test_strict_reverse_path_is_refused_where_answers_leave_elsewhere(box: Box) -> None:
    box.must(box.name, "sysctl -q -w net.ipv4.conf.all.rp_filter=1")
    with pytest.raises(Conflict, match=r"comes in by e1 .* leave by e0") as refused:
        require_way_back(_ADMINISTRATOR, "10.9.1.1", box.run)
    assert "by e1, or connect to an address of e0" in refused.value.hint
    require_way_back(_ADMINISTRATOR, "10.9.0.1", box.run)


@pytest.mark.parametrize("by", ["all", "e1"])
def test_loose_reverse_path_is_not(box: Box, by: str) -> None:
    box.must(box.name, "sysctl -q -w net.ipv4.conf.all.rp_filter=1")
    box.must(box.name, f"sysctl -q -w net.ipv4.conf.{by}.rp_filter=2")
    require_way_back(_ADMINISTRATOR, "10.9.1.1", box.run)


@pytest.mark.parametrize("value", [0, 1, 2])
def test_what_is_refused_is_what_the_kernel_drops(box: Box, value: int) -> None:
    box.must(box.name, f"sysctl -q -w net.ipv4.conf.all.rp_filter={value}")
    assert [box.answers(server) for server in _SERVERS] == [not _refused(box, server) for server in _SERVERS]


def test_neighbour_outside_every_network_is_refused_when_it_gets_no_answer(box: Box) -> None:
    """As clouds hand addresses out: one alone, with a gateway that lies beside it."""
    box.must(box.name, "ip address flush dev e1")
    box.must(box.name, "ip address add 10.9.1.1/32 dev e1")
    box.must(box.name, "ip route add 10.9.1.2/32 dev e1")
    box.must(box.name, f"ip route add {_ADMINISTRATOR}/32 via 10.9.1.2")
    require_way_back(_ADMINISTRATOR, "10.9.1.1", box.run)
    box.must(box.name, "sysctl -q -w net.ipv4.conf.all.arp_ignore=2")
    with pytest.raises(Conflict, match=r"10\.9\.1\.2 lies in no network of e1"):
        require_way_back(_ADMINISTRATOR, "10.9.1.1", box.run)


def test_address_that_no_one_interface_holds_is_not_compared(box: Box) -> None:
    box.must(box.name, "ip address add 10.9.7.7/32 dev lo")
    assert find_way_back(_ADMINISTRATOR, "10.9.7.7", box.run) is None
    assert find_way_back("2001:db8::9", "2001:db8::1", box.run) is None


def _refused(box: Box, server: str) -> bool:
    try:
        require_way_back(_ADMINISTRATOR, server, box.run)
    except Conflict:
        return True
    return False
