"""Processes of a run, found by a mark in their environment (docs/decisions/0009-processes-found-by-a-mark.md).

ansible-core starts each worker in a session of its own, so no process group holds them all: after a timeout, or after
the installer itself was killed, a module would go on changing the machine. The mark is inherited by all of them, and
not by services that systemd starts for them.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from appliance.kernel.process import ProcessIdentity, identify, is_alive, send_signal

MARK = "INTRAMUROS_RUN"


def marked(run: str) -> list[ProcessIdentity]:
    """Return the live processes of a run, but for the caller's own."""
    wanted = f"{MARK}={run}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # ended meanwhile, or somebody else's
            continue
        if wanted in environment.split(b"\0") and (identity := identify(int(entry.name))) is not None:
            found.append(identity)
    return found


def end(run: str, *, grace: float) -> int:
    """End every process of a run: let it finish for `grace` seconds after SIGTERM, then SIGKILL. Returns how many."""
    ended: set[int] = set()
    deadline = time.monotonic() + grace
    number = signal.SIGTERM
    while processes := [process for process in marked(run) if is_alive(process)]:
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        for process in processes:
            if number is signal.SIGKILL or process.pid not in ended:
                send_signal(process, number, group=False)
            ended.add(process.pid)
        time.sleep(0.05)
    return len(ended)
