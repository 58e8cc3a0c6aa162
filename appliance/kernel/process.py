"""The one door for subprocesses: argv list, allow-listed environment, timeout, bounded output.

Nothing here ever goes through a shell, and no secret belongs in argv or in the environment: hand over a file.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.errors import NotFound, Unavailable

_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
)
_OUTPUT_LIMIT = 1 << 20
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a finished program said: its exit status and the first MiB of each stream."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same pid: pid, start time, boot."""

    pid: int
    started: int
    boot: str


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment a child may see: the allow-list plus `extra`."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | dict(extra or {})


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    extra_environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    given: bytes = b"",
) -> Outcome:
    """Run a program to its end, `given` on its standard input. Raises NotFound (not installed) or Unavailable."""
    if shutil.which(argv[0]) is None:
        raise NotFound("process.not_installed", f"The program {argv[0]} is not installed.")
    try:
        finished = subprocess.run(
            list(argv),
            env=child_environment(extra_environment),
            cwd=directory,
            input=given,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable("process.timeout", f"{argv[0]} did not finish within {timeout:.0f} s.") from error
    return Outcome(
        status=finished.returncode,
        stdout=finished.stdout[:_OUTPUT_LIMIT].decode(errors="replace"),
        stderr=finished.stderr[:_OUTPUT_LIMIT].decode(errors="replace"),
    )


def start(
    argv: Sequence[str],
    *,
    log: Path,
    extra_environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a long-lived program in a session of its own, both streams appended to `log`."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            list(argv),
            env=child_environment(extra_environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            close_fds=True,
        )


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def boot_id() -> str:
    """Return the kernel's identifier of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """Return who `pid` is now, or None when there is no such live process (a zombie is not alive)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes().decode("ascii", errors="replace")  # names may be any bytes
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return ProcessIdentity(pid=pid, started=int(fields[19]), boot=boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether that very process still runs."""
    return identify(identity.pid) == identity


def send_signal(identity: ProcessIdentity, number: signal.Signals, *, group: bool = True) -> bool:
    """Signal that very process with its group, or it alone; False when it is gone."""
    if not is_alive(identity):
        return False
    try:
        if group:
            os.killpg(identity.pid, number)
        else:
            os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    return True


def memory_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since it started (vmstat's `oom_kill`)."""
    lines = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return next((int(count) for name, count in lines if name == "oom_kill"), 0)
