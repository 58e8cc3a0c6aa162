"""A real embedded appliance for flow tests: verbs as separate processes, the daemon and its children for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.api import calls
from appliance.api.client import Client
from appliance.api.types import JobView
from appliance.daemon.marks import find
from appliance.kernel.paths import StatePaths
from benchmarks.processes import free_port

_TIMEOUT = 240.0


class Refused(Exception):
    """A verb ended with an error; `code` is the stable one."""

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        super().__init__(f"{problem['code']}: {problem['message']}")
        self.code = str(problem["code"])
        self.message = str(problem["message"])
        self.status = status


class Box:
    """One state directory and the verbs on it."""

    def __init__(self, root: Path, port: int) -> None:
        self.paths = StatePaths(root)
        self.port = port

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"https://127.0.0.1:{self.port}"

    def verb(self, *arguments: str) -> Any:
        """Run a verb with --json; raises Refused."""
        finished = run_verb(*arguments, state=self.paths.root)
        if finished.returncode != 0:
            raise refusal(finished)
        return json.loads(finished.stdout)

    def up(self) -> Any:
        """Start it and wait until it serves."""
        return self.verb("up", "--port", str(self.port))

    def down(self) -> None:
        """Stop it."""
        self.verb("down")

    def pid(self, unit: str) -> int | None:
        """Return the process of a unit whose name starts with `unit` (gateway, engine-, job-)."""
        for found in find(self.paths.root):
            if found.unit.startswith(unit):
                return found.identity.pid
        return None

    def daemon_pid(self) -> int | None:
        """Return the daemon's process."""
        return self._program(b"appliance.daemon.main")

    def keeper_pid(self) -> int | None:
        """Return the process that restarts the daemon."""
        return self._program(b"appliance.daemon.keeper")

    def _program(self, module: bytes) -> int | None:
        return next(iter(processes_with(module, os.fsencode(str(self.paths.root)))), None)

    def job(self, job: str) -> JobView:
        """Return a job as it is now, without a process of its own."""
        with Client(self.paths.control_socket, patience=60.0) as client:
            return client.send(calls.job(job)).job

    def kill(self, unit: str) -> bool:
        """Kill -9 a unit, or the daemon; False when it is not running now."""
        pid = self.daemon_pid() if unit == "daemon" else self.pid(unit)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def ask_as_client(self, question: str, *, model: str, max_tokens: int) -> dict[str, Any]:
        """Ask the gateway as an end user with the key in the file `key`; what came, `ok` or not."""
        finished = subprocess.run(
            [
                *(sys.executable, "-I", "-m", "appliance.tour.end_user", "ask", question),
                *("--url", self.url, "--ca", str(self.paths.authority_certificate)),
                *("--key-file", str(self.paths.root / "key"), "--model", model, "--max-tokens", str(max_tokens)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        answer: dict[str, Any] = json.loads(finished.stdout)
        return answer


def run_verb(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    """Run `intramuros` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-I", "-m", "appliance.cli.main", *arguments, "--json", "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
        env={**os.environ, "INTRAMUROS_PATIENCE": "30"},
    )


def refusal(finished: subprocess.CompletedProcess[str]) -> Refused:
    """Return the error a failed verb reported on its last line."""
    lines = [line for line in finished.stderr.splitlines() if line.startswith("{")]
    assert lines, f"no problem document in: {finished.stderr!r}"
    return Refused(json.loads(lines[-1]), finished.returncode)


@contextmanager
def running_box(root: Path) -> Iterator[Box]:
    """Start an appliance in `root`; stop it at the end, whatever happened."""
    box = Box(root, free_port())
    box.up()
    try:
        yield box
    finally:
        finished = run_verb("down", state=root)
        assert finished.returncode == 0, finished.stderr
        left = [item.unit for item in find(root)]
        assert not left, f"processes left behind: {left}"


def wait_for(condition: Callable[[], Any], *, what: str, timeout: float = 30.0) -> Any:
    """Poll until `condition` is truthy and return its value."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout:.0f} s: {what}")


def processes_with(*words: bytes) -> list[int]:
    """Return the processes whose command line has all of these words."""
    return sorted(pid for pid, argv in command_lines() if set(words) <= set(argv))


def command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """Yield every process of this machine with its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
