"""The second machine's work: a client, a scan, an administrator's login, each from the address of its zone."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from tests.boxes.rig.box import Box, read, write
from tests.boxes.rig.commands import Outcome
from tests.boxes.rig.installation import MEDIUM

_PROGRAM = "/opt/client/ask.py"
_AUTHORITY = "/opt/client/ca.crt"
_KEY = "/opt/client/key"
_OPEN = re.compile(r"^(\d+)/(tcp|udp)\s+open\s", re.MULTILINE)


def install_client(machine: Box) -> None:
    """Give the machine the official client package, from the medium's wheels."""
    machine.sh(
        "python3 -m venv /opt/client && /opt/client/bin/pip --no-cache-dir --disable-pip-version-check install --quiet"
        f" --no-index --find-links={MEDIUM}/wheels openai",
        timeout=600,
    )
    write(machine, _PROGRAM, (Path(__file__).resolve().parents[1] / "client.py").read_text())


def hand_over(box: Box, machine: Box) -> None:
    """Carry the authority's certificate and a fresh key from the box to the client, as an administrator does."""
    box.sh("rm -f /var/lib/key && intramuros key create second-machine --out /var/lib/key")
    write(machine, _KEY, read(box, "/var/lib/key"), mode="0600")
    write(machine, _AUTHORITY, read(box, "/etc/intramuros/tls/ca.crt"))


def ask(machine: Box, address: IPv4Address | str, model: str, *, port: int = 8443, more: str = "") -> dict[str, Any]:
    """Ask the model one question; return the client's own report."""
    words = f"/opt/client/bin/python {_PROGRAM} {address}:{port} {_AUTHORITY} {_KEY} {model} {more}"
    said = machine.sh(words, check=False, timeout=120)
    if not said.out:
        return {"error": "client", "text": said.err}
    report: dict[str, Any] = json.loads(said.out)
    return report


def open_ports(
    machine: Box, target: IPv4Address, source: IPv4Address, ports: str, *, timeout: float = 1800
) -> set[str]:
    """Scan a box's TCP and UDP ports from one of the machine's addresses; return those that answer as open."""
    scan = f"nmap -n -Pn -sS -sU --max-retries 1 --min-rate 4000 -e host0 -S {source} -p '{ports}' {target}"
    said = machine.sh(scan, timeout=1800)
    return {f"{port}/{protocol}" for port, protocol in _OPEN.findall(said.out)}


def login(machine: Box, key: Path, target: IPv4Address, user: str, source: IPv4Address, command: str) -> Outcome:
    """Log in from one of the machine's addresses with the administrator's key."""
    write(machine, "/var/lib/admin-key", key.read_text(), mode="0600")
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5"
    return machine.sh(f"ssh -i /var/lib/admin-key -b {source} {options} {user}@{target} {command!r}", check=False)
