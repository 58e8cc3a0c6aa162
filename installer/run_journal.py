"""The journal of one run: what began and what ended, appended and flushed to the disk before anything else goes on.

One folder for each run below `runs/`, numbered so that the order never depends on a clock. Invariant: a phase whose end
is not in the journal is run again. A line that a power cut tore is no line.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from appliance.kernel.canonical import canonical_json
from appliance.kernel.clock import to_text
from appliance.kernel.durable import fsync_directory, write_file
from appliance.kernel.errors import IntegrityFailure, NotFound, storage_errors
from appliance.kernel.problem import Problem
from installer.events import StepEvent

_JOURNAL = "journal.jsonl"
_EVENTS = "events.jsonl"
_PLAN = "plan.json"
_RESULT = "result.json"
_TAKEN_BACK = Path("changes", "taken-back")

Kind = Literal["begun", "resumed", "phase_begun", "phase_done", "phase_failed", "done", "failed"]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the journal."""

    at: str
    kind: Kind
    phase: str = ""
    changed: int = 0
    text: str = ""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was to do. `digest` is the plan's."""

    run: str
    book: str
    check: bool
    digest: str
    phases: tuple[str, ...]
    at: str


class PhaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one phase did."""

    phase: str
    ok: int
    changed: int
    skipped: int
    seconds: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. `phases` are those of this invocation; `resumed_after` those that had ended before."""

    run: str
    outcome: Literal["done", "failed"]
    check: bool
    changed: int
    seconds: float
    phases: tuple[PhaseResult, ...] = ()
    resumed_after: tuple[str, ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that is on the disk."""

    head: Head
    directory: Path
    entries: tuple[Entry, ...]

    @property
    def events(self) -> Path:
        """Return the file with what it told, one event a line; it may not be there yet."""
        return self.directory / _EVENTS

    @property
    def finished(self) -> tuple[str, ...]:
        """Return the phases whose end is known, in order."""
        return tuple(dict.fromkeys(entry.phase for entry in self.entries if entry.kind == "phase_done"))

    @property
    def taken_back(self) -> bool:
        """Tell whether what it changed was taken back."""
        return (self.directory / _TAKEN_BACK).exists()

    @property
    def state(self) -> str:
        """Return `done`, `failed` or `unfinished`: killed, cut off, or going on, which the installer's lock tells."""
        last = self.entries[-1].kind if self.entries else "begun"
        return last if last in {"done", "failed"} else "unfinished"


class Journal:
    """Appends to one run's journal and events."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for name in (_JOURNAL, _EVENTS):
            _mend(directory / name)

    def note(self, now: datetime, kind: Kind, *, phase: str = "", changed: int = 0, text: str = "") -> None:
        """Append a line and flush it. Raises StorageFailure."""
        entry = Entry(at=to_text(now), kind=kind, phase=phase, changed=changed, text=text)
        self._append(_JOURNAL, msgspec.json.encode(entry), flush=True)

    def event(self, event: StepEvent) -> None:
        """Append an event, unflushed: losing the last ones costs nothing. Raises StorageFailure."""
        self._append(_EVENTS, msgspec.json.encode(event), flush=False)

    def result(self, result: Result) -> None:
        """Write how the run ended. Raises StorageFailure."""
        with storage_errors(f"writing {self._directory / _RESULT}"):
            write_file(self._directory / _RESULT, msgspec.json.encode(result) + b"\n", mode=0o600)

    def _append(self, name: str, line: bytes, *, flush: bool) -> None:
        path = self._directory / name
        with storage_errors(f"writing {path}"):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                if os.write(descriptor, line + b"\n") != len(line) + 1:
                    os.ftruncate(descriptor, size)  # a torn line would spoil the next one
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                if flush:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)


def begin(runs: Path, *, plan: dict[str, Any], head: Head) -> Path:
    """Make the folder of a new run. Raises StorageFailure."""
    directory = runs / head.run
    with storage_errors(f"making {directory}"):
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(mode=0o700)
        write_file(directory / _PLAN, canonical_json(plan) + b"\n", mode=0o600)
        write_file(directory / "head.json", msgspec.json.encode(head) + b"\n", mode=0o600)
        fsync_directory(runs)
    return directory


def next_name(runs: Path, now: datetime) -> str:
    """Return the name of the next run: a number that decides the order, and the time for people."""
    numbers = [int(name) for path in _folders(runs) if (name := path.name.partition("-")[0]).isdigit()]
    return f"{max(numbers, default=0) + 1:04d}-{now:%Y%m%dT%H%M%SZ}"


def list_runs(runs: Path) -> list[Run]:
    """Return every run, oldest first. A folder that a crash left without its head is none."""
    return [run for path in _folders(runs) if (run := _read(path)) is not None]


def latest(runs: Path) -> Run | None:
    """Return the newest run."""
    return next(reversed(list_runs(runs)), None)


def latest_that_changed(runs: Path) -> Run | None:
    """Return the newest run that was no mere check."""
    return next((run for run in reversed(list_runs(runs)) if not run.head.check), None)


def note_taken_back(run: Run, now: datetime) -> None:
    """Write down that what a run changed was taken back: nothing goes on with it any more. Raises StorageFailure."""
    with storage_errors(f"writing {run.directory / _TAKEN_BACK}"):
        write_file(run.directory / _TAKEN_BACK, f"{to_text(now)}\n".encode(), mode=0o600)


def get(runs: Path, name: str) -> Run:
    """Return one run by its name, its number, or `last`. Raises NotFound."""
    for run in reversed(list_runs(runs)):
        if name == "last" or name in {run.head.run, run.head.run.partition("-")[0].lstrip("0")}:
            return run
    if name == "last":
        raise NotFound("run.none", "Nothing was installed or hardened on this machine yet.")
    raise NotFound("run.unknown", f"There is no run {name}.", hint="List them with: intramuros runs list")


def read_events(run: Run) -> list[StepEvent]:
    """Return what a run told. Raises IntegrityFailure."""
    return list(_lines(run.events, StepEvent))


def read_result(run: Run) -> Result | None:
    """Return how a run ended, None while it has not."""
    try:
        return msgspec.json.decode((run.directory / _RESULT).read_bytes(), type=Result)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise IntegrityFailure("run.damaged", f"{run.directory / _RESULT} cannot be read: {error}.") from error


def _folders(runs: Path) -> Sequence[Path]:
    return sorted(path for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []


def _read(directory: Path) -> Run | None:
    try:
        head = msgspec.json.decode((directory / "head.json").read_bytes(), type=Head)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise IntegrityFailure("run.damaged", f"{directory / 'head.json'} cannot be read: {error}.") from error
    return Run(head=head, directory=directory, entries=tuple(_lines(directory / _JOURNAL, Entry)))


def _lines(path: Path, kind: Any) -> Iterator[Any]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    whole, _, _torn = data.rpartition(b"\n")
    for line in whole.splitlines():
        try:
            yield msgspec.json.decode(line, type=kind)
        except msgspec.DecodeError as error:
            raise IntegrityFailure("run.damaged", f"{path} cannot be read: {error}.") from error


def _mend(path: Path) -> None:
    """Cut off a line that a crash tore, so that the next one is whole."""
    if not path.exists():
        return
    with storage_errors(f"mending {path}"), path.open("r+b") as stream:
        data = stream.read()
        keep = data.rfind(b"\n") + 1
        if keep != len(data):
            stream.truncate(keep)
            stream.flush()
            os.fsync(stream.fileno())
