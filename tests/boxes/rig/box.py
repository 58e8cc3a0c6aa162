"""What scenarios do with a box, be it a container or a virtual machine."""

from __future__ import annotations

import shlex
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from tests.boxes.rig.commands import Outcome


class Box(Protocol):
    """A Debian machine on a private bridge."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> IPv4Address: ...

    def sh(self, script: str, *, check: bool = True, timeout: float = 120) -> Outcome:
        """Run a shell script as root, past the network and past SSH."""
        ...

    def start(self) -> None:
        """Power on, and return when it has booted."""
        ...

    def reboot(self) -> None:
        """Restart in order, as `systemctl reboot` does."""
        ...

    def kill(self) -> None:
        """Take the power away."""
        ...


def read(box: Box, path: str) -> str:
    """Return a file of a box."""
    return box.sh(f"cat {shlex.quote(path)}").out


def write(box: Box, path: str, text: str, *, mode: str = "0644") -> None:
    """Write a small file into a box."""
    place = shlex.quote(path)
    box.sh(
        f"mkdir -p {shlex.quote(str(Path(path).parent))}\n"
        f"cat > {place} <<'END-OF-FILE'\n{text.removesuffix(chr(10))}\nEND-OF-FILE\nchmod {mode} {place}"
    )
