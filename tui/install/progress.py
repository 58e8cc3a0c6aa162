"""What the events of a run add up to. Pure: events in, state out; screen and line mode read the same state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from installer.events import (
    Failed,
    Note,
    PhaseDone,
    PhaseSkipped,
    PhaseStarted,
    Progress,
    StepEvent,
    TaskDone,
    TaskStarted,
)

_LOG_LINES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of the run: its state is a word of the console's status grammar."""

    name: str
    title: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Everything a screen shows of a run."""

    phases: tuple[Phase, ...] = ()
    now: str = ""
    fraction: float = 0.0
    eta: float | None = None
    changed: int = 0
    failed: Failed | None = None
    log: tuple[str, ...] = ()
    """the last lines"""
    told: int = 0
    """how many lines there were in all"""


def planned(steps: Iterable[tuple[str, str, str]]) -> Running:
    """Return the state before the first event: name, title and why it is not run, of each phase."""
    return Running(
        phases=tuple(
            Phase(name=name, title=title, state="off" if skipped else "waiting", detail=skipped)
            for name, title, skipped in steps
        )
    )


def after(state: Running, event: StepEvent) -> Running:
    """Return the state after one more event."""
    match event:
        case PhaseStarted():
            title = event.title or event.phase
            detail = f"phase {event.number} of {event.phases}"
            state = _with(state, Phase(name=event.phase, title=title, state="running", detail=detail))
            return _logged(replace(state, now="", failed=None), f"{title} ({detail})")
        case PhaseSkipped():
            before = _title(state, event.phase)
            if any(phase.name == event.phase and phase.state == "done" for phase in state.phases):
                return state  # done before the interruption
            skipped = Phase(name=event.phase, title=before, state="off", detail=event.reason)
            return _logged(_with(state, skipped), f"{before}: not run, {event.reason}")
        case PhaseDone():
            title = _title(state, event.phase)
            detail = f"{event.changed} changed, {event.ok} unchanged, {_seconds(event.seconds)}"
            done = Phase(name=event.phase, title=title, state="done", detail=detail)
            return _logged(replace(_with(state, done), now=""), f"{title}: {detail}")
        case TaskStarted():
            return replace(state, now=_named(event.role, event.task))
        case TaskDone():
            changed = state.changed + (event.outcome == "changed")
            state = replace(state, changed=changed)
            if event.outcome in ("ok", "skipped"):
                return state
            return _logged(state, f"  {event.outcome}: {_named(event.role, event.task)}")
        case Progress():
            return replace(state, fraction=max(state.fraction, event.fraction), eta=event.eta_seconds)
        case Failed():
            failed = Phase(name=event.phase, title=_title(state, event.phase), state="failed", detail=event.line)
            return _logged(replace(_with(state, failed), failed=event), f"FAIL {event.phase}: {event.line}")
        case Note():
            return _logged(state, event.text)


def _with(state: Running, phase: Phase) -> Running:
    known = [one.name for one in state.phases]
    if phase.name not in known:
        return replace(state, phases=(*state.phases, phase))
    return replace(state, phases=tuple(phase if one.name == phase.name else one for one in state.phases))


def _title(state: Running, name: str) -> str:
    return next((phase.title for phase in state.phases if phase.name == name), name)


def _logged(state: Running, text: str) -> Running:
    return replace(state, log=(*state.log, text)[-_LOG_LINES:], told=state.told + 1)


def _named(role: str, task: str) -> str:
    return f"{role}: {task}" if role else task


def _seconds(seconds: float) -> str:
    whole = round(seconds)
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s" if seconds >= 1 else "under 1 s"
