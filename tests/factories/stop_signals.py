"""The handlers of a job process in the process of a test, and what they replace given back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.jobs.workspace import Workspace


@contextmanager
def listening(workspace: Workspace) -> Iterator[None]:
    """Let SIGTERM reach a workspace."""
    numbers = (signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    workspace.listen_for_stop()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def ask_to_stop() -> None:
    """Send the signal, as the daemon does."""
    os.kill(os.getpid(), signal.SIGTERM)
