"""Follows a job to its end: one live line on a terminal, a line now and then elsewhere, all on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click
import msgspec

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.quantities import figure_text
from appliance.cli.session import Session
from appliance.kernel.errors import Conflict
from appliance.kernel.events import CheckpointSaved, CheckpointSkipped, Event, Metric, Note, Progress
from appliance.kernel.problem import error_of

_HOLD = 20.0
_QUIET_SECONDS = 5.0
_ENDED = ("succeeded", "failed", "cancelled")


def follow(session: Session, job: t.JobView) -> t.JobView:
    """Show a job's progress until it ends. Raises the job's own error when it failed."""
    if job.cached:
        session.say(f"{job.kind}: an equal run is already there ({job.id}); its result is used")
    printer = _Printer(session)
    after = 0
    try:
        while True:
            page = session.send(calls.job_events(job.id, after=after, wait=_HOLD))
            for event in page.events:
                printer.show(job.kind, event.event)
            after = page.next
            if page.state in _ENDED and not page.events:
                break
    except KeyboardInterrupt:
        printer.finish()
        session.say(f"The job goes on; follow it with `intramuros job log {job.id} --follow`.")
        raise
    printer.finish()
    ended = session.send(calls.job(job.id)).job
    if ended.problem is not None:
        raise error_of(ended.problem)
    if ended.state == "cancelled":
        raise Conflict("job.cancelled", f"Job {job.id} was cancelled.", hint=f"intramuros job resume {job.id}")
    return msgspec.structs.replace(ended, cached=job.cached)


def event_text(event: Event) -> str:
    """Return one event as a line for people."""
    if isinstance(event, Progress):
        return progress_text(event)
    if isinstance(event, Note):
        return event.text
    if isinstance(event, Metric):
        return f"{event.name} = {figure_text(event.name, event.value)}"
    if isinstance(event, CheckpointSaved):
        return f"checkpoint of step {event.step} sealed ({event.digest[:12]})"
    if isinstance(event, CheckpointSkipped):
        return f"checkpoint {event.name} is not used: {event.reason}"
    return " ".join(f"{name}={getattr(event, name)}" for name in event.__struct_fields__)


def progress_text(progress: Progress) -> str:
    """Return progress in one line: phase, share, step, loss, speed, time left."""
    parts = [f"{progress.phase} {progress.fraction:4.0%}"]
    if progress.steps:
        parts.append(f"step {progress.step}/{progress.steps}")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:.0f} tok/s")
    if progress.eta_seconds is not None:
        parts.append(f"{progress.eta_seconds:.0f} s left")
    return "  ".join(parts)


class _Printer:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._live = sys.stderr.isatty() and not session.as_json
        self._last = 0.0
        self._open_line = False
        self._clock: Callable[[], float] = time.monotonic

    def show(self, kind: str, event: Event) -> None:
        text = f"{kind}: {event_text(event)}"
        if isinstance(event, Progress):
            self._progress(text, done=event.fraction >= 1)
        elif isinstance(event, Note | CheckpointSkipped | Metric):
            self.finish()
            self._session.say(text)

    def finish(self) -> None:
        if self._open_line:
            click.echo("", err=True)
            self._open_line = False

    def _progress(self, text: str, *, done: bool) -> None:
        if self._live:
            click.echo(f"\r{text[:100]:<100}", nl=False, err=True)
            self._open_line = True
        elif done or self._clock() - self._last >= _QUIET_SECONDS:
            self._session.say(text)
            self._last = self._clock()
