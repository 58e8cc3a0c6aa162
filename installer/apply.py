"""Carries a plan out: phase by phase, journaled, resumable, one installer at a time.

Every phase is one run of ansible (`installer.runner`) and ends with a line in the journal. Killed anywhere, the next
call with the same plan goes on with the first phase whose end is not in the journal; what the killed one left running
is ended first. Repeating a phase is safe because a role changes only what is not yet as it should be.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from appliance.kernel.clock import Clock, to_text, utc_now
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntramurosError, storage_errors
from appliance.kernel.problem import problem_of
from installer import leftovers, package_state, run_journal
from installer.answers import Answers, as_document
from installer.events import Note, PhaseDone, PhaseSkipped, PhaseStarted, StepEvent, TaskDone
from installer.in_effect import volume_is_ready
from installer.lock import one_installer
from installer.pace import Pace
from installer.places import Places
from installer.plan import Plan, plan_document
from installer.playbooks import Phase
from installer.run_journal import Head, Journal, PhaseResult, Result, Run
from installer.runner import Counts, Playbook, forget_scratch, run_playbook
from installer.secrets import STORAGE_RECOVERY_KEY, laid, lay, secrets_directory, wipe

_LEFTOVER_GRACE = 30.0
"""What a killed installer left may be apt in the middle of a package: it gets the time to end in order."""

_OF_THE_MEDIUM = "packages"
"""The phase that tells apt where the medium is: it may be mounted elsewhere when a run goes on."""


class Hooks(Protocol):
    """Whoever looks on, and is asked."""

    def event(self, event: StepEvent) -> None:
        """Take an event. What it raises stops the run."""
        ...

    def recovery_key(self) -> str | None:
        """Make a recovery key and return it once a person has confirmed it; None when it was laid down before."""
        ...

    def cancelled(self) -> bool:
        """Tell whether the run shall stop."""
        ...


class Watcher(Protocol):
    """Records what a phase changes, such as the change journal of hardening."""

    def before(self, phase: str, directory: Path) -> None:
        """Called before a phase, with the folder of the run."""
        ...

    def after(self, phase: str, directory: Path, *, succeeded: bool) -> None:
        """Called after a phase, also when it failed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to carry out. `secrets` are laid on tmpfs for the run: name -> content. `answers_text` is kept as the box's
    answers, unless it is empty."""

    plan: Plan
    answers: Answers
    answers_text: bytes = b""
    bundle_root: Path | None = None
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    check: bool = False
    restart: bool = False
    phase_timeout: float = 7200.0


def apply(
    request: Request,
    hooks: Hooks,
    *,
    places: Places,
    watchers: Sequence[Watcher] = (),
    clock: Clock = utc_now,
) -> Result:
    """Carry the plan out to its end. Raises Conflict (another installer runs) and what the runner raises.

    A failure is journaled before it is raised; the folder of the run has the whole story.
    """
    os.umask(0o022)  # sudo of a hardened box gives 077, and what we install is read by services too
    with one_installer(places):
        _end_leftovers(places, hooks)
        if not request.check and package_state.mend(places.root):
            hooks.event(Note(text="Set up the packages that an interruption had left half set up."))
        if request.answers_text and not request.check:
            _keep_answers(request.answers_text, places)
        directory, finished = _open(request, hooks, places, clock)
        journal = Journal(directory)
        walk = _Walk(request, hooks, places, watchers, clock, directory, journal, finished)
        began = time.monotonic()
        try:
            with secrets_directory(places.secrets, given=dict(request.secrets)):
                walk.all_phases()
        except BaseException as error:
            walk.settle(began, error)
            raise
        return walk.settle(began, None)


def unfinished(places: Places, *, digest: str) -> Run | None:
    """Return the newest run when it did not end well and had the same plan: the one that would go on."""
    newest = run_journal.latest_that_changed(places.runs)
    if newest is None or newest.state == "done" or newest.taken_back or newest.head.digest != digest:
        return None
    return newest


def _end_leftovers(places: Places, hooks: Hooks) -> None:
    """End what a killed installer left running. Nobody else holds the lock, so nobody needs it."""
    newest = run_journal.latest(places.runs)
    if newest is not None and (number := leftovers.end(newest.head.run, grace=_LEFTOVER_GRACE)):
        hooks.event(Note(text=f"Ended {number} processes that the interrupted run {newest.head.run} had left."))
    if places.scratch.is_dir():
        forget_scratch(places.scratch)


def _open(request: Request, hooks: Hooks, places: Places, clock: Clock) -> tuple[Path, tuple[str, ...]]:
    """Go on with the interrupted run of the same plan, or begin a new one."""
    before = None if request.check else unfinished(places, digest=request.plan.digest)
    if before is not None and not request.restart:
        Journal(before.directory).note(clock(), "resumed")
        done = ", ".join(before.finished) or "none"
        hooks.event(Note(text=f"Going on with the unfinished run {before.head.run}; phases that ended before: {done}."))
        return before.directory, tuple(name for name in before.finished if name != _OF_THE_MEDIUM)
    newest = run_journal.latest_that_changed(places.runs)
    if newest is not None and newest.state == "unfinished" and not newest.taken_back and not request.check:
        hooks.event(Note(text=f"Run {newest.head.run} never ended; this is another plan, so it begins anew."))
    now = clock()
    head = Head(
        run=run_journal.next_name(places.runs, now),
        book=request.plan.book,
        check=request.check,
        digest=request.plan.digest,
        phases=tuple(phase.name for phase in request.plan.to_run),
        at=to_text(now),
    )
    directory = run_journal.begin(places.runs, plan=plan_document(request.plan), head=head)
    Journal(directory).note(now, "begun", text="check" if request.check else "")
    return directory, ()


class _Walk:
    """One invocation's way through the phases."""

    def __init__(
        self,
        request: Request,
        hooks: Hooks,
        places: Places,
        watchers: Sequence[Watcher],
        clock: Clock,
        directory: Path,
        journal: Journal,
        finished: tuple[str, ...],
    ) -> None:
        self._request = request
        self._hooks = hooks
        self._places = places
        self._watchers = watchers
        self._clock = clock
        self._directory = directory
        self._journal = journal
        self._before = finished
        self._results: list[PhaseResult] = []
        self._pace = Pace(request.plan.to_run, finished=finished, now=time.monotonic())

    def all_phases(self) -> None:
        """Run every phase that is not done yet."""
        number = 0
        for step in self._request.plan.steps:
            if step.skipped:
                self._tell(PhaseSkipped(phase=step.phase.name, reason=step.skipped))
                continue
            number += 1
            if step.phase.name in self._before:
                self._tell(PhaseSkipped(phase=step.phase.name, reason="ended before the interruption"))
                continue
            self._one_phase(step.phase, number)

    def settle(self, began: float, error: BaseException | None) -> Result:
        """Write how it ended. A disk that is too full for it does not hide the failure itself."""
        known = error if isinstance(error, IntramurosError) else None
        result = Result(
            run=self._directory.name,
            outcome="done" if error is None else "failed",
            check=self._request.check,
            changed=sum(each.changed for each in self._results),
            seconds=round(time.monotonic() - began, 3),
            phases=tuple(self._results),
            resumed_after=self._before,
            problem=problem_of(known) if known is not None else None,
        )
        if error is None:
            self._journal.note(self._clock(), "done", changed=result.changed)
            self._journal.result(result)
            return result
        with contextlib.suppress(IntramurosError):
            text = known.message if known is not None else type(error).__name__
            self._journal.note(self._clock(), "failed", text=text)
            self._journal.result(result)
        return result

    def _one_phase(self, phase: Phase, number: int) -> None:
        self._prepare_secrets(phase)
        self._journal.note(self._clock(), "phase_begun", phase=phase.name)
        self._tell(
            PhaseStarted(
                phase=phase.name,
                title=phase.title,
                number=number,
                phases=len(self._request.plan.to_run),
                tasks=phase.task_count,
            )
        )
        for watcher in self._watchers:
            watcher.before(phase.name, self._directory)
        succeeded = False
        try:
            counts = self._run(phase)
            succeeded = True
        finally:
            for watcher in self._watchers:
                watcher.after(phase.name, self._directory, succeeded=succeeded)
        self._journal.note(self._clock(), "phase_done", phase=phase.name, changed=counts.changed)
        self._pace.phase_done(phase.name)
        done = PhaseResult(
            phase=phase.name,
            ok=counts.ok,
            changed=counts.changed,
            skipped=counts.skipped,
            seconds=counts.seconds,
        )
        self._results.append(done)
        self._tell(PhaseDone(**msgspec.structs.asdict(done)))
        if phase.name == "storage" and not self._request.check and self._places.secrets.is_dir():
            wipe(self._places.secrets, keep=set(laid(self._places.secrets)) - {STORAGE_RECOVERY_KEY})

    def _run(self, phase: Phase) -> Counts:
        def on_event(event: StepEvent) -> None:
            self._tell(event)
            if isinstance(event, TaskDone):
                self._tell(self._pace.task_done(phase.name, event.role, event.task, now=time.monotonic()))

        return run_playbook(
            Playbook(
                file=phase.file,
                phase=phase.name,
                run=self._directory.name,
                variables=self._variables(),
                secrets_directory=self._places.secrets,
                check=self._request.check,
                timeout=self._request.phase_timeout,
            ),
            scratch=self._places.scratch,
            on_event=on_event,
            cancelled=self._hooks.cancelled,
        )

    def _prepare_secrets(self, phase: Phase) -> None:
        """Have the recovery key confirmed before the volume is made: a key nobody wrote down never becomes a way in."""
        if phase.name != "storage" or self._request.check or STORAGE_RECOVERY_KEY in laid(self._places.secrets):
            return
        if volume_is_ready(self._places):
            return
        if (key := self._hooks.recovery_key()) is not None:
            lay(self._places.secrets, STORAGE_RECOVERY_KEY, key.encode() + b"\n")

    def _variables(self) -> dict[str, Any]:
        root = self._request.bundle_root
        return {
            "answers": as_document(self._request.answers),
            "bundle_root": str(root) if root is not None else "",
            "run_id": self._directory.name,
            "run_directory": str(self._directory),
            "secrets_directory": str(self._places.secrets),
            "secrets_given": laid(self._places.secrets),
        }

    def _tell(self, event: StepEvent) -> None:
        self._journal.event(event)
        self._hooks.event(event)


def _keep_answers(text: bytes, places: Places) -> None:
    """Keep the answers of this installation; they carry no secrets. Raises StorageFailure."""
    with storage_errors(f"writing {places.answers}"):
        places.config.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_file(places.answers, text, mode=0o640)
