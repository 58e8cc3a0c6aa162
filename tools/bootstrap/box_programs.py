"""Programs of the test boxes: what tests/boxes needs of the operating system, in two portions.

The containers' portion is small and comes with set-up, so that the gate runs the quick scenarios. Virtual machines need
QEMU and a TPM emulator; only `make test-boxes` asks for those.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tools.bootstrap.debian_packages import install, may_install
from tools.bootstrap.narration import SetupFailure, say

CONTAINERS = {
    "debootstrap": "debootstrap",
    "systemd-container": "systemd-nspawn",
    "iproute2": "ip",
    "nftables": "nft",
    "tcpdump": "tcpdump",
    "e2fsprogs": "mkfs.ext4",
    "openssh-client": "ssh",
}
"""Debian package -> the program of it that containers need."""
FLEETS = {"wireguard-go": "wireguard-go"}
"""Debian package -> the program that stands in for WireGuard where this kernel has none."""
MACHINES = {"qemu-system-x86": "qemu-system-x86_64", "qemu-utils": "qemu-img", "swtpm": "swtpm"}
"""Debian package -> the program of it that virtual machines need."""


def missing_box_packages(programs: dict[str, str]) -> list[str]:
    """Name the Debian packages whose programs are not there."""
    return [package for package, program in programs.items() if shutil.which(program) is None]


def offer_box_programs(log: Path) -> None:
    """Install what containers need when root on a Debian system; only say what is missing otherwise. Never fails."""
    missing = missing_box_packages(CONTAINERS)
    if not missing:
        return
    if not may_install():
        say(f"the test boxes will be skipped: they need root and {', '.join(missing)}")
        return
    try:
        install(missing, log)
    except SetupFailure as failure:
        say(f"the test boxes will be skipped: {failure}")


def require_box_programs(log: Path) -> None:
    """Install everything the boxes need. Raises SetupFailure when it is not root, or apt cannot."""
    if os.geteuid() != 0:
        raise SetupFailure("Test boxes need root: they make namespaces, mounts and bridges.", hint="Run it as root.")
    missing = missing_box_packages(CONTAINERS | MACHINES | FLEETS)
    if not missing:
        return
    if not may_install():
        raise SetupFailure(f"Missing from the system: {', '.join(missing)}.", hint="Install them.")
    install(missing, log)
    if still := missing_box_packages(CONTAINERS | MACHINES | FLEETS):
        raise SetupFailure(f"Still missing after apt-get: {', '.join(still)}.", hint=f"See {log}.")
