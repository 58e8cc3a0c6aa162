"""One invocation of `apply`: who is told, who is asked, and what is kept. Real ansible-runner, two tiny phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.kernel.clock import utc_now
from appliance.kernel.errors import Conflict, InternalError, StorageFailure
from installer import run_journal, secrets
from installer.answers import Answers, check_answers
from installer.apply import Request, apply, unfinished
from installer.events import Failed, PhaseDone, PhaseSkipped, PhaseStarted, StepEvent
from installer.lock import one_installer
from installer.places import Places
from installer.plan import Plan, make_plan
from installer.playbooks import read_book
from installer.secrets import STORAGE_PASSPHRASE, STORAGE_RECOVERY_KEY
from tests.factories.tiny_playbooks import write_playbooks
from tests.unit.installer.complete_answers import complete_answers

_LUKS = {"mode": "luks", "device": "/dev/vdb", "unlock": ["passphrase"]}
_PHASE = """---
- name: The {name} phase
  hosts: box
  gather_facts: false
  tasks:
    - name: Keep what is given
      ansible.builtin.copy: {{content: "{{{{ secrets_given | join(' ') }}}}", dest: "{out}/{name}", mode: "0644"}}
    - name: Succeed
      ansible.builtin.command: test ! -e {out}/broken-{name}
      changed_when: false
  post_tasks:
    - name: Mark the end
      ansible.builtin.import_tasks: tasks/mark_end.yml
"""
_KEY = "cbdefghi-cbdefghi"


class Hooks:
    def __init__(self) -> None:
        self.events: list[StepEvent] = []
        self.asked = 0

    def event(self, event: StepEvent) -> None:
        self.events.append(event)

    def recovery_key(self) -> str | None:
        self.asked += 1
        return _KEY

    def cancelled(self) -> bool:
        return False


class Watcher:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def before(self, phase: str, directory: Path) -> None:
        self.calls.append(("before", phase))

    def after(self, phase: str, directory: Path, *, succeeded: bool) -> None:
        self.calls.append(("after", phase, succeeded))


Make = Callable[[Answers], Plan]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def plan(tmp_path: Path, out: Path) -> Make:
    folder = tmp_path / "playbooks"
    write_playbooks(folder, {name: _PHASE.format(name=name, out=out) for name in ("storage", "record")})

    def make(answers: Answers) -> Plan:
        phases = read_book(folder, "site")
        return make_plan(book="site", phases=phases, answers=answers, bundle="", playbooks_digest="")

    return make


def test_recovery_key_is_asked_for_once_and_gone_after_its_phase(plan: Make, out: Path, memory: Path) -> None:
    answers = check_answers(complete_answers(storage=_LUKS), name="a")
    hooks, places = Hooks(), Places(root=memory)
    request = Request(plan=plan(answers), answers=answers, secrets={STORAGE_PASSPHRASE: b"correct horse\n"})
    result = apply(request, hooks, places=places)
    assert result.outcome == "done"
    assert hooks.asked == 1
    assert (out / "storage").read_text() == f"{STORAGE_PASSPHRASE} {STORAGE_RECOVERY_KEY}"
    assert (out / "record").read_text() == STORAGE_PASSPHRASE
    assert not places.secrets.exists()
    told = msgspec.json.encode(hooks.events) + b"".join(
        path.read_bytes() for path in places.state.rglob("*") if path.is_file()
    )
    for secret in (_KEY, "correct horse"):
        assert secret.encode() not in told


def test_confirmed_key_is_not_asked_for_again_after_a_failure(plan: Make, out: Path, memory: Path) -> None:
    answers = check_answers(complete_answers(storage=_LUKS), name="a")
    hooks, places = Hooks(), Places(root=memory)
    request = Request(plan=plan(answers), answers=answers)
    (out / "broken-storage").touch()
    with pytest.raises(InternalError):
        apply(request, hooks, places=places)
    assert secrets.laid(places.secrets) == [STORAGE_RECOVERY_KEY]
    (out / "broken-storage").unlink()
    apply(request, hooks, places=places)
    assert hooks.asked == 1


def test_no_key_is_made_for_a_volume_that_is_ready_or_in_check_mode(plan: Make, memory: Path) -> None:
    answers = check_answers(complete_answers(storage=_LUKS), name="a")
    hooks, places = Hooks(), Places(root=memory)
    apply(Request(plan=plan(answers), answers=answers, check=True), hooks, places=places)
    places.config.mkdir(parents=True)
    table = {"uuid": "u", "device": "/dev/vdb", "name": "data", "mount": "/srv", "ready": True}
    places.volume_table.write_bytes(msgspec.json.encode(table))
    apply(Request(plan=plan(answers), answers=answers), hooks, places=places)
    assert hooks.asked == 0


def test_phases_that_are_not_needed_are_told(plan: Make, answers: Answers, memory: Path) -> None:
    hooks, watcher = Hooks(), Watcher()
    apply(Request(plan=plan(answers), answers=answers), hooks, places=Places(root=memory), watchers=[watcher])
    kinds = [type(event) for event in hooks.events if isinstance(event, PhaseSkipped | PhaseStarted | PhaseDone)]
    assert kinds == [PhaseSkipped, PhaseStarted, PhaseDone]
    assert watcher.calls == [("before", "record"), ("after", "record", True)]


def test_failure_is_journaled_and_can_go_on(plan: Make, answers: Answers, out: Path, memory: Path) -> None:
    hooks, watcher, places = Hooks(), Watcher(), Places(root=memory)
    request = Request(plan=plan(answers), answers=answers)
    (out / "broken-record").touch()
    with pytest.raises(InternalError, match="Phase record failed: Succeed"):
        apply(request, hooks, places=places, watchers=[watcher])
    assert watcher.calls[-1] == ("after", "record", False)
    assert [event.task for event in hooks.events if isinstance(event, Failed)] == ["Succeed"]
    run = run_journal.get(places.runs, "last")
    result = run_journal.read_result(run)
    assert result is not None
    assert result.problem is not None
    assert (run.state, result.outcome, result.problem.code) == ("failed", "failed", "run.failed")
    assert unfinished(places, digest=request.plan.digest) is not None
    assert unfinished(places, digest="another") is None


def test_check_in_between_keeps_a_failed_run_resumable(plan: Make, answers: Answers, out: Path, memory: Path) -> None:
    hooks, places = Hooks(), Places(root=memory)
    request = Request(plan=plan(answers), answers=answers)
    (out / "broken-record").touch()
    with pytest.raises(InternalError):
        apply(request, hooks, places=places)
    (out / "broken-record").unlink()
    failed = run_journal.get(places.runs, "last").head.run
    apply(replace(request, check=True), hooks, places=places)
    assert apply(request, hooks, places=places).run == failed


def test_run_that_was_taken_back_is_begun_anew(plan: Make, answers: Answers, out: Path, memory: Path) -> None:
    hooks, places = Hooks(), Places(root=memory)
    request = Request(plan=plan(answers), answers=answers)
    (out / "broken-record").touch()
    with pytest.raises(InternalError):
        apply(request, hooks, places=places)
    failed = run_journal.get(places.runs, "last")
    (failed.directory / "changes").mkdir()
    run_journal.note_taken_back(failed, utc_now())
    (out / "broken-record").unlink()
    result = apply(request, hooks, places=places)
    assert (result.run != failed.head.run, result.resumed_after) == (True, ())


def test_answers_are_kept_by_the_installer_that_is_at_work_alone(plan: Make, answers: Answers, memory: Path) -> None:
    places = Places(root=memory)
    mine, other = (Request(plan=plan(answers), answers=answers, answers_text=text) for text in (b"mine", b"other"))
    apply(mine, Hooks(), places=places)
    with one_installer(places), pytest.raises(Conflict):
        apply(other, Hooks(), places=places)
    apply(replace(other, check=True), Hooks(), places=places)
    assert places.answers.read_bytes() == b"mine"


def test_phase_that_tells_apt_of_the_medium_is_run_again_when_a_run_goes_on(
    answers: Answers, tmp_path: Path, out: Path, memory: Path
) -> None:
    """The medium may be mounted elsewhere by now."""
    folder, places = tmp_path / "playbooks", Places(root=memory)
    write_playbooks(folder, {name: _PHASE.format(name=name, out=out) for name in ("packages", "ground", "record")})
    plan = make_plan(book="site", phases=read_book(folder, "site"), answers=answers, bundle="", playbooks_digest="")
    request = Request(plan=plan, answers=answers)
    (out / "broken-record").touch()
    with pytest.raises(InternalError):
        apply(request, Hooks(), places=places)
    (out / "broken-record").unlink()
    hooks = Hooks()
    apply(request, hooks, places=places)
    assert [event.phase for event in hooks.events if isinstance(event, PhaseDone)] == ["packages", "record"]


def test_watcher_that_cannot_write_stops_the_run(plan: Make, answers: Answers, memory: Path) -> None:
    class Full(Watcher):
        def before(self, phase: str, directory: Path) -> None:
            raise StorageFailure("storage.full", "No space left.")

    hooks, places = Hooks(), Places(root=memory)
    with pytest.raises(StorageFailure):
        apply(Request(plan=plan(answers), answers=answers), hooks, places=places, watchers=[Full()])
    assert not [event for event in hooks.events if isinstance(event, PhaseDone)]
    assert run_journal.get(places.runs, "last").finished == ()
