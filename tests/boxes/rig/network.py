"""A private bridge in a network namespace of its own: boxes on it, a router that leads nowhere, no way out.

The bridge's own address is the boxes' default route. The namespace forwards, but has no other interface: whatever a box
sends elsewhere reaches the bridge, is seen by the capture, and is answered with "network unreachable". Addresses are
the same in each run, because each run has its own namespace. RFC 1918 addresses, as an office has them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from tests.boxes.rig.capture import Capture
from tests.boxes.rig.commands import Outcome, run

NETWORK = IPv4Network("10.90.0.0/24")
ADMIN = IPv4Network("10.90.0.0/28")
"""Administrators; the rig itself is 10.90.0.1."""
CLIENTS = IPv4Network("10.90.0.32/28")
"""Those who use the model."""
BRIDGE = "br0"
NAME_SERVER = IPv4Address("192.0.2.53")
"""A server that nobody has (RFC 5737): a question to it is a packet that wanted to leave."""


LEAVES = (
    f"(ip and not dst net {NETWORK} and not dst net 224.0.0.0/4 and not dst host 255.255.255.255) "
    "or (ip6 and not dst net fe80::/10 and not dst net ff00::/8)"
)
"""What is meant for anywhere but the bridge's own network; neighbours' chatter does not leave a link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One bridge in one network namespace."""

    namespace: str
    folder: Path

    @property
    def router(self) -> IPv4Address:
        """The rig's own address on the bridge."""
        return NETWORK[1]

    def inside(self, words: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs `words` on this machine, but in this network."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *(str(word) for word in words)]

    def run(self, words: Sequence[str | Path], *, check: bool = True, timeout: float = 120) -> Outcome:
        """Run a program of this machine in this network."""
        return run(self.inside(words), check=check, timeout=timeout)

    def start(self, words: Sequence[str | Path], *, log: Path) -> subprocess.Popen[bytes]:
        """Start a program of this machine in this network, its output in `log`."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                self.inside(words), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )

    def add_tap(self, name: str) -> None:
        """Add a port for a virtual machine to the bridge."""
        ip = ["ip", "-n", self.namespace]
        run([*ip, "tuntap", "add", name, "mode", "tap"])
        run([*ip, "link", "set", name, "master", BRIDGE, "up"])

    def remove_tap(self, name: str) -> None:
        run(["ip", "-n", self.namespace, "link", "delete", name], check=False)

    def capture(self, name: str, wanted: str = LEAVES) -> Capture:
        """Start counting what wants to leave the bridge, or the packets that another filter (pcap-filter(7)) wants."""
        return Capture.start(self.inside(["tcpdump"]), BRIDGE, wanted, self.folder / f"{name}.pcap")


def make_network(namespace: str, folder: Path) -> Network:
    """Make the namespace and its bridge."""
    run(["ip", "netns", "add", namespace])
    ip = ["ip", "-n", namespace]
    run([*ip, "link", "set", "lo", "up"])
    run([*ip, "link", "add", BRIDGE, "type", "bridge"])
    network = Network(namespace=namespace, folder=folder)
    run([*ip, "address", "add", f"{network.router}/{NETWORK.prefixlen}", "dev", BRIDGE])
    run([*ip, "link", "set", BRIDGE, "up"])
    network.run(["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"])
    return network


def remove_network(network: Network) -> None:
    """Remove the namespace; the bridge goes with it."""
    run(["ip", "netns", "delete", network.namespace])
