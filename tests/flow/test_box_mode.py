"""Daemon and gateway as systemd runs them on a box: apart, each telling the service manager when it is ready."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from appliance.access.box_tls import BoxTls, renew
from appliance.api import calls
from appliance.api.client import Client
from appliance.daemon.gateway_unit import gateway_state
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.durable import write_file
from appliance.kernel.paths import StatePaths
from benchmarks.processes import free_port
from tests.factories.box import wait_for

_PATIENCE = 60.0


class Manager:
    """What systemd does for the two: a notification socket each, and the processes themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = StatePaths(folder / "state")
        self.gateway_socket = folder / "run" / "http.sock"
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self) -> None:
        for name in ("state", "run", "logs", "state/authority", "state/edge", "public"):
            (self.folder / name).mkdir()
        self.paths.run.mkdir()
        self.paths.run.chmod(0o2711)
        self.gateway_socket.parent.chmod(0o2750)
        box = BoxTls(
            authority=str(self.paths.root / "authority"),
            edge=str(self.paths.root / "edge"),
            public=str(self.folder / "public"),
            owner=getpass.getuser(),
        )
        renew(box)
        self.paths.settings.write_text(f'port = {self.port}\ntls_file = "{box.gateway_file}"\n')

    def daemon(self) -> None:
        self._start(
            "daemon",
            *("appliance.daemon.main", "--state", str(self.paths.root)),
            *("--gateway-socket", str(self.gateway_socket)),
        )

    def gateway(self) -> None:
        self._start(
            "gateway",
            *("appliance.gateway.main", "--state", str(self.paths.root)),
            *("--socket", str(self.gateway_socket), "--logs", str(self.folder / "logs")),
        )

    def _start(self, name: str, *argv: str) -> None:
        """Start a process and wait until it says that it is ready."""
        address = self.folder / f"{name}.notify"
        address.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
            (self.folder / f"{name}.log").open("ab") as log,
        ):
            channel.bind(str(address))
            channel.settimeout(_PATIENCE)
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-I", "-m", *argv],
                env=os.environ | {"NOTIFY_SOCKET": str(address)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            assert channel.recv(64) == b"READY=1"

    def stop(self) -> None:
        """End all of it in order; whatever an assertion says, nothing is left running."""
        for process in self.processes.values():
            process.terminate()
        try:
            statuses = {name: process.wait(timeout=_PATIENCE) for name, process in self.processes.items()}
        finally:
            for process in self.processes.values():
                process.kill()
        assert set(statuses.values()) == {0}, statuses

    def healthy(self) -> bool:
        trust = ssl.create_default_context(cafile=str(self.folder / "public" / "ca.crt"))
        with contextlib.suppress(httpx2.TransportError), httpx2.Client(verify=trust) as client:
            return client.get(f"https://localhost:{self.port}/healthz").status_code == 200
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    made.prepare()
    made.daemon()
    made.gateway()
    yield made
    made.stop()


def _units(manager: Manager) -> dict[str, str]:
    with Client(manager.paths.control_socket) as client:
        return {unit.name: unit.state for unit in client.send(calls.status()).units}


@pytest.mark.skipif(os.getuid() != 0, reason="on a box root administers; another user has a role only by its group")
def test_the_daemon_sees_a_gateway_that_it_did_not_start(manager: Manager) -> None:
    assert manager.healthy()
    assert manager.paths.gateway_socket.readlink() == manager.gateway_socket
    assert manager.gateway_socket.stat().st_mode & 0o777 == 0o660
    assert manager.paths.gateway_table.stat().st_mode & 0o777 == 0o640
    assert not (manager.paths.root / "secrets" / "ca.key").exists()
    wait_for((manager.folder / "logs" / "access.jsonl").exists, what="the access log")
    assert _units(manager) == {"intramurosd": "ready", "gateway": "ready"}
    manager.processes["gateway"].send_signal(signal.SIGKILL)
    manager.processes["gateway"].wait()
    assert _units(manager)["gateway"] == "down"
    manager.gateway()
    wait_for(manager.healthy, what="the gateway is back")
    assert _units(manager)["gateway"] == "ready"


def test_the_gateway_serves_on_while_the_daemon_is_gone(manager: Manager) -> None:
    manager.processes["daemon"].send_signal(signal.SIGKILL)
    manager.processes["daemon"].wait()
    assert manager.healthy()
    manager.daemon()
    assert manager.healthy()


def test_a_gateway_that_is_asked_looks_at_its_table_first(manager: Manager) -> None:
    """No signal reaches another user's process, and a new key must not be refused until the next look."""
    table = manager.paths.gateway_table
    for _ in range(3):
        write_file(table, table.read_bytes() + b"\n", mode=0o640)
        state = gateway_state(manager.paths)
        assert state is not None
        assert state.table == sha256_hex(table.read_bytes())


def test_who_may_not_use_the_socket_is_told_so(manager: Manager) -> None:
    """Seen from a user without any right: the socket is there, and the reason is not "nobody answers"."""
    if os.getuid() != 0:
        pytest.skip("only root can become nobody")
    program = (
        "import os; from pathlib import Path\n"
        "from appliance.api import calls; from appliance.api.client import Client\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"client = Client(Path({str(manager.paths.control_socket)!r}), patience=0.0)\n"
        "try: client.send(calls.status())\n"
        "except Exception as error: print(getattr(error, 'code', error))\n"
    )
    for folder in (manager.folder, *manager.folder.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o711)
    manager.paths.root.chmod(0o711)
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout.strip() == "access.socket", finished.stderr
