"""Programs the rig starts on this machine: an outcome with both outputs, or a failure that shows their ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, here and in a box."""
_TAIL = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a program did: exit status and both outputs as text."""

    status: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.status == 0


class CommandFailed(Exception):
    """A program ended otherwise than the rig relies on."""

    def __init__(self, words: Sequence[str], outcome: Outcome) -> None:
        text = f"{' '.join(words)[:500]}\nended with {outcome.status}\n{outcome.out[-_TAIL:]}\n{outcome.err[-_TAIL:]}"
        super().__init__(text)
        self.outcome = outcome


def run(
    words: Sequence[str | Path], *, check: bool = True, timeout: float = 120, stdin: bytes | None = None
) -> Outcome:
    """Run a program to its end. Raises CommandFailed when it ends with a status other than 0 and `check` is true."""
    argv = [str(word) for word in words]
    finished = subprocess.run(
        argv,
        input=b"" if stdin is None else stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PATH": f"{PATH}:{os.environ.get('PATH', '')}", "LC_ALL": "C.UTF-8"},
    )
    outcome = Outcome(
        status=finished.returncode,
        out=finished.stdout.decode(errors="replace"),
        err=finished.stderr.decode(errors="replace"),
    )
    if check and not outcome.ok:
        raise CommandFailed(argv, outcome)
    return outcome
