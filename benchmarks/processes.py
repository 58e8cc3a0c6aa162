"""Programs under measurement: started in a session of their own, weighed, and ended whatever happens."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_PATIENCE = 60.0
_POLL = 0.02


class NotReady(RuntimeError):
    """A program under measurement ended or did not answer in time."""


@contextmanager
def running(
    argv: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the duration of the block."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    ready: Callable[[], bool], *processes: subprocess.Popen[bytes], what: str, patience: float = _PATIENCE
) -> None:
    """Poll until `ready()`. Raises NotReady when a process ends first or `patience` seconds pass."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            raise NotReady(f"{what} ended before it was ready; see its log.")
        if ready():
            return
        time.sleep(_POLL)
    raise NotReady(f"{what} was not ready after {patience:.0f} s; see its log.")


def cpu_seconds(*processes: subprocess.Popen[bytes]) -> float:
    """Return user plus system time of the processes so far, their finished children included."""
    total = 0.0
    for process in processes:
        times = psutil.Process(process.pid).cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_bytes(pid: int) -> int:
    """Return the proportional set size: shared pages count by their share."""
    return int(psutil.Process(pid).memory_full_info().pss)


def free_port() -> int:
    """Return a TCP port nobody uses and no outgoing connection is given: it stays free until it is used."""
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest_outgoing - 8_000, lowest_outgoing)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def accepts(port: int) -> bool:
    """Tell whether something listens on the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
