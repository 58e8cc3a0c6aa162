"""The wizard's hold on this box's installer: secrets, the run's journal, and what is told at the end."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from appliance.kernel.errors import BadInput
from appliance.kernel.problem import Problem
from installer import run_journal
from installer.cli.prepare import OpenedBundle
from installer.events import Note
from installer.places import Places
from installer.run_journal import Head, Journal, Result
from installer.storage import recovery_key
from tests.console.test_wizard_pure import GOOD
from tui.install.judge import judge
from tui.install.real import ThisBox

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
LUKS = {**GOOD, "storage.mode": "luks", "storage.device": "/dev/vdb", "storage.unlock": "passphrase"}


@pytest.fixture
def places() -> Iterator[Places]:
    """A box below a folder in memory, as /run is."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Places(root=Path(folder))


def begun(places: Places, name: str = "0001-x") -> Journal:
    """A run that was begun."""
    head = Head(run=name, book="site", check=False, digest="d", phases=("ground",), at="2026-07-01T12:00:00Z")
    directory = run_journal.begin(places.runs, plan={}, head=head)
    journal = Journal(directory)
    journal.note(NOW, "begun")
    journal.note(NOW, "phase_begun", phase="ground")
    journal.event(Note(text="one"))
    journal.event(Note(text="two"))
    return journal


def result(problem: Problem | None = None) -> Result:
    """How a run ended."""
    return Result(
        run="0001-x", outcome="failed" if problem else "done", check=False, changed=3, seconds=1, problem=problem
    )


def test_secrets_lie_in_memory_for_root_alone(places: Places) -> None:
    box, answers = ThisBox(None, places=places), judge(LUKS).answers
    assert answers is not None
    assert box.secrets_wanted(answers) == ("admin_password_hash", "storage_passphrase")
    assert box.secrets_kept() == frozenset()
    box.keep_secret("admin_password_hash", "Correct horse battery 9")
    box.keep_secret("storage_passphrase", "correct horse battery")
    assert box.secrets_kept() == {"admin_password_hash", "storage_passphrase"}
    assert places.secrets.stat().st_mode & 0o777 == 0o700
    for path in places.secrets.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert (places.secrets / "storage_passphrase").read_text() == "correct horse battery\n"
    assert (places.secrets / "admin_password_hash").read_text().startswith("$y$")


def test_installer_gets_the_answers_that_its_own_person_agreed_to(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two consoles share the folder of drafts; what one starts is not what the other has planned meanwhile."""
    started: list[list[str]] = []
    monkeypatch.setattr("tui.install.real.process.start", lambda words, **_: started.append(words))
    box, answers = ThisBox(None, places=places), judge(LUKS).answers
    assert answers is not None
    box._bundle = OpenedBundle(root=Path("/media/stick"), version="1", digest="d")
    (places.state / "wizard").mkdir(parents=True)
    box.begin(answers, "of this console")
    (places.state / "wizard" / "answers.toml").write_text("of the other console")
    (words,) = started
    assert Path(words[words.index("--answers") + 1]).read_text() == "of this console"


def test_recovery_key_is_made_until_one_was_confirmed(places: Places) -> None:
    box, luks, none = ThisBox(None, places=places), judge(LUKS).answers, judge(GOOD).answers
    assert luks is not None
    assert none is not None
    assert box.new_recovery_key(none) is None
    key = box.new_recovery_key(luks)
    assert key is not None
    assert recovery_key.normalise(key) == key
    assert box.new_recovery_key(luks) != key
    box.lay_recovery_key(key)
    assert box.new_recovery_key(luks) is None
    assert (places.secrets / "storage_recovery_key").read_text() == f"{key}\n"


def test_wizard_without_a_bundle_says_which_is_missing(places: Places) -> None:
    with pytest.raises(BadInput, match="bundle"):
        ThisBox(None, places=places).machine()


def test_run_is_found_again_and_followed(places: Places) -> None:
    box = ThisBox(None, places=places)
    assert box.unfinished() is None
    journal = begun(places)
    found = box.unfinished()
    assert found is not None
    assert (found.run, found.phase, found.alive) == ("0001-x", "ground", False)
    places.memory.mkdir(parents=True, exist_ok=True)
    places.lock.write_text(f"{os.getpid()}\n")
    with places.lock.open("rb+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        found = box.unfinished()
        assert found is not None
        assert found.alive
        events = box.follow()
        assert next(events) == Note(text="one")
        journal.event(Note(text="three"))
    assert list(events) == [Note(text="two"), Note(text="three")]
    journal.note(NOW, "done")
    assert box.unfinished() is None


def test_report_of_a_run_that_failed_has_its_line(places: Places) -> None:
    journal = begun(places)
    journal.note(NOW, "failed")
    journal.result(result(Problem(code="run.failed", message="Phase ground failed: no.", hint="Again.")))
    report = ThisBox(None, places=places).report()
    assert report.problem is not None
    assert (report.problem.code, report.problem.hint) == ("run.failed", "Again.")
    assert ("journal", str(places.runs / "0001-x")) in report.facts


def test_report_of_a_killed_run_says_that_there_is_no_result(places: Places) -> None:
    begun(places)
    report = ThisBox(None, places=places).report()
    assert report.problem is not None
    assert report.problem.code == "wizard.no_result"


def test_report_of_an_early_refusal_is_the_installers_own(places: Places) -> None:
    log = places.state / "wizard" / "install.log"
    log.parent.mkdir(parents=True)
    refused = Problem(code="install.not_ready", message="1 thing is in the way.", hint="See all of it.")
    log.write_bytes(b'{"type":"note","text":"x"}\nnoise\n' + msgspec.json.encode(refused) + b"\n")
    report = ThisBox(None, places=places).report()
    assert report.problem is not None
    assert report.problem.code == "install.not_ready"
    assert "See all of it." in report.problem.hint
