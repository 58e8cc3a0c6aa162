"""How a process gives way to others: less processor time when somebody else wants it, and first to go without memory.

Best effort, on itself alone. A kernel that groups processes by session (sched(7), autogroup) ignores niceness between
sessions, and every job leads one; so the group is made nice as well.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

NICENESS_VARIABLE = "INTRAMUROS_NICENESS"
"""Environment variable that tells a job's process how nice to be."""
_FIRST_TO_GO = 500
_NICEST = 19


def give_way(niceness: int, *, proc: Path = Path("/proc/self")) -> None:
    """Be that nice (0 to 19), and be what the kernel ends first when memory is short.

    The nicest of all runs when nobody else wants the processor (sched(7), SCHED_IDLE): a share that is merely small
    still holds up threads that wait for each other, such as an engine's.
    """
    if niceness >= _NICEST:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except OSError as error:
            print(f"this process cannot be an idle one, and is nice instead: {error}", file=sys.stderr)
    if niceness > 0:
        try:
            os.nice(niceness)
        except OSError as error:  # a sandbox that forbids it; the work is worth more than its place in the queue
            print(f"this process cannot give way by a niceness of {niceness}: {error}", file=sys.stderr)
        _write(proc / "autogroup", str(niceness))
    _write(proc / "oom_score_adj", str(_FIRST_TO_GO))


def _write(file: Path, text: str) -> None:
    # Absent in some kernels and containers, where there is nothing to write to.
    with contextlib.suppress(OSError):
        file.write_text(text)
