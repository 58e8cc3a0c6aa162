"""Who is at work on a run, and what the run tells: the lock, the file of events, and the verbs that read both."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from appliance.cli.main import main
from appliance.kernel.errors import Conflict
from installer import run_journal
from installer.events import Note, StepEvent
from installer.following import tail
from installer.lock import holder, one_installer
from installer.places import Places
from installer.run_journal import Head, Journal

_NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A box of which one run began, told one thing, and did not end."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    made = Places(root=tmp_path)
    monkeypatch.setattr("installer.cli.runs.Places", lambda: made)
    head = Head(run=run_journal.next_name(made.runs, _NOW), book="site", check=False, digest="d", phases=("a",), at="x")
    journal = Journal(run_journal.begin(made.runs, plan={}, head=head))
    journal.note(_NOW, "begun")
    journal.event(Note(text="told at the beginning"))
    return made


def test_events_are_followed_whole_lines_only_until_the_end(tmp_path: Path) -> None:
    file, steps = tmp_path / "events.jsonl", iter(("", "half", "rest", "end"))
    first, second = (msgspec.json.encode(Note(text=text)) for text in ("one", "two"))

    def ended() -> bool:
        match next(steps):
            case "half":
                file.write_bytes(first + b"\n" + second[:5])
            case "rest":
                with file.open("ab") as stream:
                    stream.write(second[5:] + b"\ntorn{\n")
            case "end":
                return True
        return False

    told: list[StepEvent] = list(tail(file, ended))
    assert told == [Note(text="one"), Note(text="two")]


def test_lock_names_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert holder(lock) is None
    lock.write_text(f"{os.getpid()}\n")
    assert holder(lock) is None
    with lock.open("rb+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert holder(lock) == os.getpid()
    assert holder(lock) is None


def test_second_installer_is_told_who_is_at_work(places: Places) -> None:
    with one_installer(places), pytest.raises(Conflict, match=f"process {os.getpid()}"), one_installer(places):
        pass


def test_run_is_running_only_while_an_installer_is_at_work(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    def state() -> str:
        assert main(["runs", "list", "--json"]) == 0
        return str(json.loads(capsys.readouterr().out)[-1]["state"])

    assert state() == "unfinished"
    with one_installer(places):
        assert state() == "running"
    assert state() == "unfinished"


def test_killed_run_is_not_followed_for_ever(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "follow"]) == 0
    said = capsys.readouterr().err
    assert "told at the beginning" in said
    assert "Nobody is at work on it" in said


def test_run_is_followed_until_its_installer_ends(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    newest = run_journal.latest(places.runs)
    assert newest is not None
    journal, followed = Journal(newest.directory), threading.Event()

    def follow() -> None:
        assert main(["runs", "follow", "--json"]) == 0
        followed.set()

    with one_installer(places):
        thread = threading.Thread(target=follow)
        thread.start()
        assert not followed.wait(0.5)
        journal.event(Note(text="told later"))
        journal.note(_NOW, "done")
    assert followed.wait(30)
    thread.join()
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == [
        "told at the beginning",
        "told later",
    ]
