"""What a run tells while it goes on, in one typed form: the terminal, the wizard and the run's journal render the same.

No event carries a module's arguments or output; a failure carries one line, from which known secrets were taken out.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["ok", "changed", "skipped", "failed", "ignored"]
"""How a task ended; `ignored` is a failure that the role expects and goes on after."""


class PhaseStarted(msgspec.Struct, frozen=True, kw_only=True, tag="phase_started"):
    """A phase begins; `number` of `phases`, with about `tasks` tasks."""

    phase: str
    title: str
    number: int
    phases: int
    tasks: int


class TaskStarted(msgspec.Struct, frozen=True, kw_only=True, tag="task_started"):
    """A task of a role begins."""

    phase: str
    role: str
    task: str


class TaskDone(msgspec.Struct, frozen=True, kw_only=True, tag="task_done"):
    """A task ended."""

    phase: str
    role: str
    task: str
    outcome: Outcome
    seconds: float = 0.0


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far the whole run is: `fraction` is 0..1; `eta_seconds` is None while it is too early to tell."""

    phase: str
    fraction: float
    eta_seconds: float | None = None


class PhaseDone(msgspec.Struct, frozen=True, kw_only=True, tag="phase_done"):
    """A phase ended and its end mark was found."""

    phase: str
    seconds: float
    ok: int
    changed: int
    skipped: int


class PhaseSkipped(msgspec.Struct, frozen=True, kw_only=True, tag="phase_skipped"):
    """A phase is not run, and why."""

    phase: str
    reason: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The phase did not succeed: one line that names the task and what it said."""

    phase: str
    role: str = ""
    task: str = ""
    line: str


class Note(msgspec.Struct, frozen=True, kw_only=True, tag="note"):
    """One line for a person."""

    text: str


StepEvent = PhaseStarted | TaskStarted | TaskDone | Progress | PhaseDone | PhaseSkipped | Failed | Note
"""Everything that a run can tell; the `type` field tells the kinds apart on the wire."""
