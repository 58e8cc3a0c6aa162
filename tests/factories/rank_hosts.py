"""Rank hosts for flow tests: real processes, one for each box of a fleet, on loopback addresses of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.factories.box import command_lines, wait_for

ADDRESSES = {"alpha": "127.0.0.2", "beta": "127.0.0.3"}


class RankHosts:
    """The rank hosts of boxes `alpha` (which asks) and `beta`, below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = _free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ADDRESSES:
            (root / name / "sockets").mkdir(parents=True)
            self.inventory(name).write_text(self._inventory(name))

    def inventory(self, name: str) -> Path:
        """Return the inventory that a box has."""
        return self.root / name / "fleet.toml"

    def sockets(self, name: str) -> Path:
        """Return the folder of the sockets that a box's jobs use."""
        return self.root / name / "sockets"

    def runs(self, name: str) -> Path:
        """Return the folder of the runs that a box trains for."""
        return self.root / name / "ranks" / "runs"

    def _inventory(self, own: str) -> str:
        boxes = "".join(f'[[boxes]]\nname = "{name}"\naddress = "{at}"\n' for name, at in ADDRESSES.items())
        return f'own = "{own}"\nport = {self.port}\n{boxes}'

    def start(self, name: str) -> None:
        """Start a box's rank host and wait for its socket."""
        own = self.sockets(name) / f"{name}.sock"
        own.unlink(missing_ok=True)
        with (self.root / name / "log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-m", "appliance.rankhost.main"),
                    *("--fleet", str(self.inventory(name)), "--state", str(self.root / name / "ranks")),
                    *("--sockets", str(self.sockets(name)), "--niceness", "0"),
                ],
                stdout=log,
                stderr=log,
            )
        wait_for(own.exists, what=f"the rank host of {name}")

    def kill(self, name: str) -> None:
        """Kill -9 a box's rank host."""
        self._processes[name].kill()
        self._processes.pop(name).wait()

    def stop(self, name: str) -> int:
        """Stop a box's rank host in order and return its exit status."""
        self._processes[name].send_signal(signal.SIGTERM)
        return self._processes.pop(name).wait(timeout=60)

    def ranks(self, name: str) -> list[int]:
        """Return the processes of the ranks on a box."""
        return self._working(name, b"appliance.training.ranks.rank_task")

    def processes(self, name: str) -> list[int]:
        """Return every process that works in the folder of a box's runs."""
        return self._working(name)

    def _working(self, name: str, *words: bytes) -> list[int]:
        folder = os.fsencode(self.runs(name))
        return [
            pid
            for pid, argv in command_lines()
            if set(words) <= set(argv) and any(word.startswith(folder) for word in argv)
        ]

    def close(self) -> None:
        """Kill what still runs."""
        for name in tuple(self._processes):
            self.kill(name)


@contextmanager
def rank_hosts(root: Path) -> Iterator[RankHosts]:
    """Start both rank hosts; nothing of them is left at the end."""
    hosts = RankHosts(root)
    try:
        for name in ADDRESSES:
            hosts.start(name)
        yield hosts
    finally:
        hosts.close()
    wait_for(lambda: not any(hosts.processes(name) for name in ADDRESSES), what="no run outlives its rank host")


def _free_port() -> int:
    """Return a port that every box's address has free."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind((ADDRESSES["alpha"], 0))
            port: int = first.getsockname()[1]
            try:
                second.bind((ADDRESSES["beta"], port))
            except OSError:
                continue
            return port
