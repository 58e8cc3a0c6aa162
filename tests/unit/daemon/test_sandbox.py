"""Whether a process has a network, and how it is taken away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.daemon.sandbox import interfaces, is_without_network, network_prefix

_TABLE = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0
  eth0: 1234567    4321    0    0    0     0          0         0  7654321    1234    0    0    0     0       0
"""


def test_interfaces_are_read_from_the_kernels_table() -> None:
    assert interfaces(_TABLE) == ("lo", "eth0")
    assert "lo" in interfaces(Path("/proc/self/net/dev").read_text())


@pytest.mark.parametrize(("names", "without"), [((), True), (("lo",), True), (("lo", "eth0"), False)])
def test_the_loopback_alone_is_no_network(names: tuple[str, ...], without: bool) -> None:
    assert is_without_network(names) is without


def test_inside_an_empty_namespace_nothing_more_is_taken() -> None:
    prefix = network_prefix()
    if not prefix:
        pytest.skip("no namespace can be made here, or this test has no network itself")
    program = "from appliance.daemon.sandbox import network_prefix; print(network_prefix())"
    finished = subprocess.run(
        [*prefix, sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout.strip() == "()"
