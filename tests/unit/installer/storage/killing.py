"""Kills a process of ours with signal 9 at a chosen call of an outside program, by a stand-in for it on PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

_PROGRAMS = ("cryptsetup", "systemd-cryptenroll", "clevis")
_STAND_IN = """#!/bin/sh
case "$*" in *'{act}'*) ;; *) exec {real} "$@";; esac
case {moment} in
before) kill -9 $PPID;;
during) {real} "$@" & sleep 0.03; kill -9 $! $PPID;;
after) {real} "$@"; kill -9 $PPID;;
esac
"""


def status_of_killed(work: Callable[[], None], *, act: str, moment: str, tools: Path) -> int:
    """Do `work` in a child that dies before, during or after the first call whose arguments contain `act`.

    Returns the child's exit code: minus the signal's number, or 0 when no such call was made.
    """
    tools.mkdir()
    for name in _PROGRAMS:
        if (real := shutil.which(name)) is not None:
            stand_in = tools / name
            stand_in.write_text(_STAND_IN.format(act=act, moment=moment, real=real))
            stand_in.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, state = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(state)
