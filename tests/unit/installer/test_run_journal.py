from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.kernel.errors import IntegrityFailure, NotFound, StorageFailure
from installer import run_journal
from installer.events import Note
from installer.run_journal import Head, Journal, Result

_NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def begun(runs: Path, *, now: datetime = _NOW) -> Path:
    name = run_journal.next_name(runs, now)
    head = Head(run=name, book="site", check=False, digest="d", phases=("a", "b"), at="x")
    directory = run_journal.begin(runs, plan={"book": "site"}, head=head)
    Journal(directory).note(now, "begun")
    return directory


def test_order_does_not_depend_on_the_clock(tmp_path: Path) -> None:
    begun(tmp_path, now=datetime(2099, 1, 1, tzinfo=UTC))
    second = begun(tmp_path, now=datetime(1970, 1, 1, tzinfo=UTC))
    newest = run_journal.latest(tmp_path)
    assert newest is not None
    assert newest.directory == second
    assert [run.head.run[:4] for run in run_journal.list_runs(tmp_path)] == ["0001", "0002"]


def test_states_and_finished_phases(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    journal = Journal(directory)
    journal.note(_NOW, "phase_done", phase="a", changed=3)
    assert (run_journal.get(tmp_path, "last").state, run_journal.get(tmp_path, "1").finished) == ("unfinished", ("a",))
    journal.note(_NOW, "failed", text="why")
    assert run_journal.get(tmp_path, "last").state == "failed"
    journal.note(_NOW, "resumed")
    assert run_journal.get(tmp_path, "last").state == "unfinished"
    journal.note(_NOW, "done")
    journal.result(Result(run=directory.name, outcome="done", check=False, changed=3, seconds=1.0))
    run = run_journal.get(tmp_path, directory.name)
    assert run.state == "done"
    result = run_journal.read_result(run)
    assert result is not None
    assert result.changed == 3


@pytest.mark.parametrize("torn", [b"{", b'{"at":"x","kind":"phase_done","phase":"b"', b"\x00\x00\x00"])
def test_torn_line_is_no_line(tmp_path: Path, torn: bytes) -> None:
    directory = begun(tmp_path)
    with (directory / "journal.jsonl").open("ab") as stream:
        stream.write(torn)
    assert run_journal.get(tmp_path, "last").finished == ()
    Journal(directory).note(_NOW, "phase_done", phase="a")
    assert run_journal.get(tmp_path, "last").finished == ("a",)


def test_damage_inside_is_told(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    (directory / "journal.jsonl").write_bytes(b"nonsense\n")
    with pytest.raises(IntegrityFailure, match=r"journal\.jsonl"):
        run_journal.list_runs(tmp_path)


def test_folder_without_its_head_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "0001-half").mkdir()
    assert run_journal.list_runs(tmp_path) == []
    assert run_journal.next_name(tmp_path, _NOW).startswith("0002-")
    with pytest.raises(NotFound, match="Nothing was installed"):
        run_journal.get(tmp_path, "last")
    with pytest.raises(NotFound, match="There is no run 7"):
        run_journal.get(tmp_path, "7")


def test_events_come_back_as_they_were_told(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    Journal(directory).event(Note(text="hello"))
    assert run_journal.read_events(run_journal.get(tmp_path, "last")) == [Note(text="hello")]


def test_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    journal = Journal(directory)
    (directory / "events.jsonl").unlink(missing_ok=True)
    (directory / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageFailure) as caught:
        journal.event(Note(text="hello"))
    assert caught.value.code == "storage.full"
