"""A job's own directory, seen from inside the job process.

    spec.json      what to do            in/<name>/…    inputs, links to verified read-only blobs
    checkpoints/   sealed, newest wins   out/…          results, adopted by the daemon
    events.jsonl   appended progress     result.json    written last; its presence means success
    error.json     why it failed         shared/…       sealed, for every job of the same campaign
    rank-hosts.json, placement.json      who trains on several ranks, and where they are

A task may write only below `output`, `checkpoints`, `shared` and `scratch`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import msgspec

from appliance.jobs.spec import Environment, JobSpec
from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.events import Event, Progress

D = TypeVar("D")

PLACEMENT = "placement.json"
"""file that a rank host leaves in a job's directory: where all ranks of the run are"""
RANK_HOSTS = "rank-hosts.json"
"""file that the daemon leaves in a job's directory where there are rank hosts"""
EXIT_INTERRUPTED = 75
"""the exit status of a process whose task was interrupted (sysexits.h: EX_TEMPFAIL)"""
_PROGRESS_INTERVAL = 0.25
_AGAIN = 1.0
"""seconds after which `Interrupted` is raised again, if a callback from C or a finaliser swallowed it"""


class Interrupted(BaseException):
    """The task was asked to stop, and did; it can be resumed.

    Not an Exception, because it may be raised between any two lines, also inside a library that swallows those.
    """


class RankHosts(msgspec.Struct, frozen=True, kw_only=True):
    """Who trains on several ranks for this box: the fleet's inventory, and a folder with a socket for each box."""

    inventory: str
    sockets: str
    version: str
    environment: Environment
    """this box as it is now; a job may have been queued under an older version"""


class Workspace:
    """The door between a task and the rest of the appliance."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spec = msgspec.json.decode((directory / "spec.json").read_bytes(), type=JobSpec)
        self.output = directory / "out"
        self.checkpoints = directory / "checkpoints"
        self.shared = directory / "shared"
        self.scratch = directory / "scratch"
        self.when_sealed: list[Callable[[], None]] = []
        """what to do once the result is on the disk and cannot be lost any more"""
        self._events = (directory / "events.jsonl").open("ab", buffering=0)
        self._last_progress = 0.0
        self._stop = False
        self._at_once = False

    def input(self, name: str) -> Path:
        """Return the folder that holds one declared input's files."""
        return self.directory / "in" / name

    def document(self, name: str, form: type[D]) -> D | None:
        """Return a document that whoever laid the directory out left in it, or None."""
        file = self.directory / name
        return msgspec.json.decode(file.read_bytes(), type=form) if file.exists() else None

    def emit(self, event: Event) -> None:
        """Append an event; progress is thinned to four lines a second, except the last (`fraction` 1)."""
        if isinstance(event, Progress):
            now = time.monotonic()
            if event.fraction < 1 and now - self._last_progress < _PROGRESS_INTERVAL:
                return
            self._last_progress = now
        line: dict[str, Any] = {"at": to_text(utc_now()), "event": event}
        self._events.write(msgspec.json.encode(line) + b"\n")

    def stop_requested(self) -> bool:
        """True after SIGTERM: save a checkpoint at the next step and raise `Interrupted`."""
        return self._stop

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, SIGTERM raises `Interrupted` at once: what is on the disk would survive a kill just as well."""
        with self._stopping(at_once=True):
            yield

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Inside, SIGTERM waits for whoever asks `stop_requested` and has something to save first, or for the end."""
        with self._stopping(at_once=False):
            yield

    @contextmanager
    def _stopping(self, *, at_once: bool) -> Iterator[None]:
        before, self._at_once = self._at_once, at_once
        try:
            self._stop_now_if_asked()
            yield
        finally:
            self._at_once = before
            if not before:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
        self._stop_now_if_asked()

    def _stop_now_if_asked(self) -> None:
        if self._stop and self._at_once:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
            raise Interrupted

    def close(self) -> None:
        """Close the event log; nothing can be emitted afterwards."""
        self._events.close()

    def listen_for_stop(self) -> None:
        """Install the handler of SIGTERM, and of the alarm that repeats it; called once by the job process."""

        def remember(_number: int, _frame: FrameType | None) -> None:
            self._stop = True
            self._stop_now_if_asked()

        signal.signal(signal.SIGTERM, remember)
        signal.signal(signal.SIGALRM, remember)


class Task(Protocol):
    """One kind of work. Returns the summary; files are whatever it left below `workspace.output`."""

    def __call__(self, workspace: Workspace) -> dict[str, Any]: ...


TaskLoader = Callable[[], Task]
"""Defers the heavy imports of a task to the job process that runs it."""
