"""The journal of a hardening run: what each phase changed, from two snapshots, and for which controls. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from installer.events import StepEvent, TaskDone
from installer.harden.snapshot import Entry, Snapshot
from installer.playbooks import Phase

# Counters and names that the kernel itself changes, or that say nothing about hardening.
VOLATILE = (
    ".ns_last_pid",
    ".dentry-state",
    ".inode-nr",
    ".inode-state",
    ".file-nr",
    ".nr",
    ".hostname",
    ".domainname",
    ".boot_id",
    ".uuid",
    ".entropy_avail",
    ".tainted",
    ".cad_pid",
    ".flush",
    ".drop_caches",
    ".compact_memory",
    ".stat_refresh",
    ".numa_stat",
    ".write_wakeup_threshold",
    ".base_reachable_time",
    ".retrans_time",
)

CONTROL_PREFIXES = ("cis_", "anssi_", "ssg_")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One path before and after; None means that it did not exist."""

    path: str
    before: Entry | None
    after: Entry | None


class ParameterChange(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel parameter before and after."""

    name: str
    before: str
    after: str


class ChangedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that changed something, with the controls it serves."""

    role: str
    task: str
    controls: tuple[str, ...]


class PhaseChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one phase changed. Tables are listings of nft; None means that there was none."""

    phase: str
    at: str
    succeeded: bool
    files: tuple[Change, ...]
    packages_added: tuple[str, ...]
    packages_removed: tuple[str, ...]
    parameters: tuple[ParameterChange, ...]
    table_before: str | None
    table_after: str | None
    tasks: tuple[ChangedTask, ...]


def compare(
    before: Snapshot, after: Snapshot, *, phase: str, at: str, succeeded: bool, tasks: Sequence[ChangedTask] = ()
) -> PhaseChanges:
    """Return what lies between two snapshots."""
    paths = sorted(before.entries.keys() | after.entries.keys())
    return PhaseChanges(
        phase=phase,
        at=at,
        succeeded=succeeded,
        files=tuple(
            Change(path=path, before=before.entries.get(path), after=after.entries.get(path))
            for path in paths
            if before.entries.get(path) != after.entries.get(path)
        ),
        packages_added=tuple(sorted(after.packages.keys() - before.packages.keys())),
        packages_removed=tuple(sorted(before.packages.keys() - after.packages.keys())),
        parameters=tuple(
            ParameterChange(name=name, before=before.parameters[name], after=after.parameters[name])
            for name in sorted(before.parameters.keys() & after.parameters.keys())
            if before.parameters[name] != after.parameters[name] and not name.endswith(VOLATILE)
        ),
        table_before=before.table,
        table_after=after.table,
        tasks=tuple(tasks),
    )


def changed_tasks(events: Iterable[StepEvent], phase: Phase) -> tuple[ChangedTask, ...]:
    """Return the tasks of a phase that changed something, with their control ids from the playbooks' tags."""
    tags = {(role.name, task.name): task.tags for role in phase.roles for task in role.tasks}
    found = []
    for event in events:
        if isinstance(event, TaskDone) and event.phase == phase.name and event.outcome == "changed":
            name = event.task.removeprefix(f"{event.role} : ")
            controls = tuple(tag for tag in tags.get((event.role, name), ()) if tag.startswith(CONTROL_PREFIXES))
            found.append(ChangedTask(role=event.role, task=name, controls=controls))
    return tuple(found)


def merge(phases: Sequence[PhaseChanges]) -> PhaseChanges:
    """Return several phases of one run, in order, as one change: the first before, the last after."""
    files: dict[str, Change] = {}
    parameters: dict[str, ParameterChange] = {}
    for each in phases:
        for change in each.files:
            first = files.get(change.path)
            files[change.path] = Change(
                path=change.path, before=first.before if first is not None else change.before, after=change.after
            )
        for parameter in each.parameters:
            known = parameters.get(parameter.name)
            parameters[parameter.name] = ParameterChange(
                name=parameter.name,
                before=known.before if known is not None else parameter.before,
                after=parameter.after,
            )
    added = {name for each in phases for name in each.packages_added}
    removed = {name for each in phases for name in each.packages_removed}
    return PhaseChanges(
        phase="",
        at=phases[-1].at,
        succeeded=all(each.succeeded for each in phases),
        files=tuple(change for _, change in sorted(files.items()) if change.before != change.after),
        packages_added=tuple(sorted(added - removed)),
        packages_removed=tuple(sorted(removed - added)),
        parameters=tuple(change for _, change in sorted(parameters.items()) if change.before != change.after),
        table_before=phases[0].table_before,
        table_after=phases[-1].table_after,
        tasks=tuple(task for each in phases for task in each.tasks),
    )
