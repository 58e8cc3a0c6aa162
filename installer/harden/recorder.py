"""Watches a run's phases and keeps what each one changed, so that it can be taken back.

The snapshot before a phase is on the disk before the phase begins: a run that is killed in its middle can be taken back
too. A phase that goes on after an interruption keeps the snapshot of its first beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.kernel.clock import Clock, to_text, utc_now
from appliance.kernel.durable import write_file
from appliance.kernel.errors import Conflict, IntegrityFailure, storage_errors
from installer import run_journal
from installer.harden.changes import PhaseChanges, changed_tasks, compare
from installer.harden.snapshot import Run, Snapshot, read_snapshot, run_command, take, write_snapshot
from installer.playbooks import Phase

PHASES = ("ground", "hardening", "access", "record", "closing")
"""The phases that harden."""
_INSTALLING = frozenset({"storage", "appliance"})
"""Phases that are not recorded, and write into the same files: accounts, groups, mounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRecorder:
    """A watcher of `installer.apply`: snapshots around every phase that hardens."""

    objects: Path
    phases: Sequence[Phase]
    root: Path = Path("/")
    clock: Clock = utc_now
    run: Run = run_command

    def before(self, phase: str, directory: Path) -> None:
        """Keep what is there, unless an interrupted beginning of the phase kept it. Raises StorageFailure."""
        if phase not in PHASES or _before(directory, phase).exists():
            return
        with storage_errors("keeping the state before the change"):
            (directory / "changes").mkdir(exist_ok=True, mode=0o700)
        write_snapshot(_before(directory, phase), self._take())

    def after(self, phase: str, directory: Path, *, succeeded: bool) -> None:
        """Write what the phase changed. Raises StorageFailure."""
        if phase not in PHASES:
            return
        known = next((each for each in self.phases if each.name == phase), None)
        run = run_journal.get(directory.parent, directory.name)
        tasks = changed_tasks(run_journal.read_events(run), known) if known is not None else ()
        changes = compare(
            read_snapshot(_before(directory, phase)),
            self._take(),
            phase=phase,
            at=to_text(self.clock()),
            succeeded=succeeded,
            tasks=tasks,
        )
        with storage_errors("writing what was changed"):
            write_file(_changes(directory, phase), msgspec.json.encode(changes), mode=0o600)

    def _take(self) -> Snapshot:
        return take(self.objects, root=self.root, run=self.run)


def recorded(directory: Path, *, objects: Path, root: Path = Path("/"), run: Run = run_command) -> list[PhaseChanges]:
    """Return what a run's phases changed, in order.

    A phase without an end was killed: everything between its beginning and now counts as its change.
    """
    found = []
    for phase in PHASES:
        if _changes(directory, phase).exists():
            found.append(_read(_changes(directory, phase)))
        elif _before(directory, phase).exists():
            now = take(objects, root=root, run=run)
            before = read_snapshot(_before(directory, phase))
            found.append(compare(before, now, phase=phase, at="", succeeded=False))
    return found


def installs(run: run_journal.Run) -> bool:
    """Tell whether a run set up more than hardening, so that the state before it would miss accounts and mounts."""
    return any(entry.kind == "phase_begun" and entry.phase in _INSTALLING for entry in run.entries)


def require_hardening_alone(run: run_journal.Run) -> None:
    """Refuse to take an installation back. Raises Conflict that says what to do instead."""
    if installs(run):
        raise Conflict(
            "harden.installation",
            f"The run {run.head.run} is an installation: accounts and mounts stand in the files that it hardened.",
            hint="Change the answers and install again, or set the machine up anew; hardening alone can be taken back.",
        )


def first_snapshot(directory: Path) -> Snapshot | None:
    """Return the state before the run's first phase that hardens, or None when it had none."""
    for phase in PHASES:
        if _before(directory, phase).exists():
            return read_snapshot(_before(directory, phase))
    return None


def _read(path: Path) -> PhaseChanges:
    try:
        return msgspec.json.decode(path.read_bytes(), type=PhaseChanges)
    except (OSError, msgspec.DecodeError) as error:
        raise IntegrityFailure("harden.changes_damaged", f"The journal {path} cannot be read: {error}.") from error


def _before(directory: Path, phase: str) -> Path:
    return directory / "changes" / f"{phase}.before.json"


def _changes(directory: Path, phase: str) -> Path:
    return directory / "changes" / f"{phase}.json"
