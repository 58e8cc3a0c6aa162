"""What lies between two snapshots, and which controls asked for it."""

from __future__ import annotations

from pathlib import Path

from installer.events import StepEvent, TaskDone
from installer.harden.changes import PhaseChanges, changed_tasks, compare, merge
from installer.harden.snapshot import Entry, Snapshot
from installer.playbooks import Phase, RoleLine, TaskLine


def _file(digest: str, mode: str = "0644") -> Entry:
    return Entry(kind="file", mode=mode, uid=0, gid=0, digest=digest)


def _snapshot(
    entries: dict[str, Entry],
    *,
    packages: dict[str, str] | None = None,
    parameters: dict[str, str] | None = None,
    table: str | None = None,
) -> Snapshot:
    return Snapshot(entries=entries, packages=packages or {}, parameters=parameters or {}, table=table)


def test_added_changed_and_removed_are_told_apart() -> None:
    before = _snapshot({"/etc/a": _file("1"), "/etc/b": _file("2"), "/etc/same": _file("3")})
    after = _snapshot({"/etc/a": _file("1", "0600"), "/etc/c": _file("4"), "/etc/same": _file("3")})
    found = {change.path: (change.before, change.after) for change in _compare(before, after).files}
    assert found == {
        "/etc/a": (_file("1"), _file("1", "0600")),
        "/etc/b": (_file("2"), None),
        "/etc/c": (None, _file("4")),
    }


def test_packages_parameters_and_table() -> None:
    before = _snapshot({}, packages={"old": "1"}, parameters={"fs.a": "0", "fs.file-nr": "1"})
    after = _snapshot(
        {}, packages={"new": "1"}, parameters={"fs.a": "1", "fs.file-nr": "2", "fs.b": "1"}, table="table"
    )
    changes = _compare(before, after)
    assert (changes.packages_added, changes.packages_removed) == (("new",), ("old",))
    assert [(each.name, each.before, each.after) for each in changes.parameters] == [("fs.a", "0", "1")]
    assert (changes.table_before, changes.table_after) == (None, "table")


def test_phases_are_merged_to_first_before_and_last_after() -> None:
    one = _compare(_snapshot({"/etc/a": _file("1")}), _snapshot({"/etc/a": _file("2"), "/etc/b": _file("5")}))
    two = _compare(_snapshot({"/etc/a": _file("2"), "/etc/b": _file("5")}), _snapshot({"/etc/a": _file("3")}))
    merged = merge([one, two])
    assert [(each.path, each.before, each.after) for each in merged.files] == [("/etc/a", _file("1"), _file("3"))]


def test_tasks_carry_the_controls_of_their_tags() -> None:
    role = RoleLine(name="ssh", tasks=(TaskLine(name="Set up", tags=("ssh", "cis_5_1_20", "anssi_r33")),))
    phase = Phase(name="access", title="", file=Path("x"), roles=(role,))
    events: list[StepEvent] = [
        TaskDone(phase="access", role="ssh", task="Set up", outcome="changed"),
        TaskDone(phase="access", role="ssh", task="Look", outcome="ok"),
        TaskDone(phase="ground", role="ssh", task="Set up", outcome="changed"),
    ]
    (found,) = changed_tasks(events, phase)
    assert (found.role, found.task, found.controls) == ("ssh", "Set up", ("cis_5_1_20", "anssi_r33"))


def _compare(before: Snapshot, after: Snapshot) -> PhaseChanges:
    return compare(before, after, phase="access", at="2026-11-25T12:00:00.000000Z", succeeded=True)
