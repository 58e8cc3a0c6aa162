"""Whole installations of a tiny set of playbooks with the real ansible-runner: killed, resumed, refused, checked."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from installer import leftovers, run_journal
from installer.places import Places
from tests.factories.tiny_playbooks import write_playbooks
from tests.quality.sources import ROOT

_KILLS = 6
_PHASE = """---
- name: The {name} phase
  hosts: box
  gather_facts: false
  tasks:
    - name: Make a folder
      ansible.builtin.file: {{path: "{out}/{name}", state: directory, mode: "0755"}}
    - name: Count this attempt
      ansible.builtin.shell: echo {name} >> {out}/attempts
      changed_when: false
    - name: Take a moment
      ansible.builtin.command: sleep 0.2
      changed_when: false
    - name: Write a file
      ansible.builtin.copy: {{content: "{{{{ answers.hostname }}}}", dest: "{out}/{name}/file", mode: "0644"}}
  post_tasks:
    - name: Mark the end
      ansible.builtin.import_tasks: tasks/mark_end.yml
"""
_PHASES = ("accounts", "ground", "closing")


class Box:
    """A machine of paths: playbooks, a root on tmpfs, and what the playbooks wrote."""

    def __init__(self, root: Path, playbooks: Path, out: Path) -> None:
        self.places = Places(root=root)
        self.playbooks = playbooks
        self.out = out

    def start(self, *flags: str, hostname: str = "box1") -> subprocess.Popen[bytes]:
        argv = [
            sys.executable,
            "-m",
            "tests.flow.installer_driver",
            str(self.playbooks),
            str(self.places.root),
            hostname,
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen([*argv, *flags], cwd=ROOT, stdout=pipe, stderr=pipe, start_new_session=True)

    def install(self, *flags: str, hostname: str = "box1") -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
        """Return the exit status, the result or problem, and the events."""
        process = self.start(*flags, hostname=hostname)
        told, events = process.communicate(timeout=120)
        lines = [msgspec.json.decode(line) for line in events.splitlines() if line.startswith(b"{")]
        return process.returncode, msgspec.json.decode(told or b"{}"), lines

    def attempts(self, phase: str) -> int:
        path = self.out / "attempts"
        return path.read_text().split().count(phase) if path.exists() else 0


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    root = Path(tempfile.mkdtemp(prefix="intramuros-test-", dir="/dev/shm"))
    playbooks, out = tmp_path / "playbooks", tmp_path / "out"
    out.mkdir()
    write_playbooks(playbooks, {name: _PHASE.format(name=name, out=out) for name in _PHASES})
    yield Box(root, playbooks, out)
    for run in run_journal.list_runs(Places(root=root).runs):
        leftovers.end(run.head.run, grace=0)
    shutil.rmtree(root, ignore_errors=True)


def test_install_then_again_changes_nothing(box: Box) -> None:
    status, result, events = box.install()
    assert status == 0, result
    assert (result["outcome"], result["changed"]) == ("done", 6)
    assert [phase["phase"] for phase in result["phases"]] == list(_PHASES)
    fractions = [event["fraction"] for event in events if event["type"] == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    status, result, _ = box.install()
    assert (status, result["changed"]) == (0, 0)
    first, second = run_journal.list_runs(box.places.runs)
    assert (first.state, second.state) == ("done", "done")
    assert not box.places.secrets.exists()
    assert not list(box.places.scratch.iterdir())


def test_check_changes_nothing_and_is_never_gone_on_with(box: Box) -> None:
    for phase in _PHASES:  # a file below a folder that is not there fails in check mode, as it does in a real role
        (box.out / phase).mkdir()
    status, result, _ = box.install("--check")
    assert (status, result["check"], result["changed"]) == (0, True, 3)
    assert not (box.out / "ground" / "file").exists()
    _, result, _ = box.install()
    assert result["changed"] == 3
    assert result["resumed_after"] == []


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on(box: Box) -> None:
    seed = int(os.environ.get("INTRAMUROS_TEST_SEED", time.time_ns() % 100_000))
    chance = random.Random(seed)
    for _ in range(_KILLS):
        process = box.start()
        time.sleep(chance.uniform(0.3, 4.0))  # a moment, not a wait for something
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    status, result, _ = box.install()
    assert status == 0, (seed, result)
    assert all((box.out / phase / "file").read_text() == "box1" for phase in _PHASES), seed
    for run in run_journal.list_runs(box.places.runs):
        ends = [entry.phase for entry in run.entries if entry.kind == "phase_done"]
        assert len(ends) == len(set(ends)), (seed, "a phase that ended was run again within one run")
        assert leftovers.marked(run.head.run) == [], seed
    assert not box.places.secrets.exists()
    assert not list(box.places.scratch.iterdir())


def test_goes_on_with_the_first_phase_that_did_not_end(box: Box) -> None:
    wait = box.out / "wait"
    phase = box.playbooks / "phase-ground.yml"
    phase.write_text(phase.read_text().replace("sleep 0.2", f"sh -c 'test -e {wait} || {{ touch {wait}; sleep 60; }}'"))
    process = box.start()
    deadline = time.monotonic() + 60
    while not wait.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (run,) = run_journal.list_runs(box.places.runs)
    assert (run.state, run.finished) == ("unfinished", ("accounts",))
    status, result, events = box.install()
    assert (status, result["resumed_after"]) == (0, ["accounts"])
    assert (box.attempts("accounts"), box.attempts("ground"), box.attempts("closing")) == (1, 2, 1)
    notes = " ".join(event["text"] for event in events if event["type"] == "note")
    assert f"Going on with the unfinished run {run.head.run}" in notes
    assert "had left" in notes
    assert [each.state for each in run_journal.list_runs(box.places.runs)] == ["done"]


def test_another_plan_begins_anew(box: Box) -> None:
    phase = box.playbooks / "phase-ground.yml"
    good = phase.read_text()
    phase.write_text(good.replace("sleep 0.2", "/bin/false"))
    status, problem, events = box.install()
    assert (status, problem["code"]) == (1, "run.failed")
    assert "ground failed: Take a moment" in problem["message"]
    assert [event["task"] for event in events if event["type"] == "failed"] == ["Take a moment"]
    phase.write_text(good)  # mended playbooks are another plan
    status, result, _ = box.install()
    assert (status, result["resumed_after"]) == (0, [])
    assert [each.state for each in run_journal.list_runs(box.places.runs)] == ["failed", "done"]


def test_failed_run_goes_on_once_the_cause_is_gone(box: Box) -> None:
    good = box.out / "good"
    phase = box.playbooks / "phase-ground.yml"
    phase.write_text(phase.read_text().replace("sleep 0.2", f"test -e {good}"))
    assert box.install()[0] == 1
    good.touch()
    status, result, _ = box.install()
    assert (status, result["resumed_after"]) == (0, ["accounts"])
    assert box.install("--restart")[1]["resumed_after"] == []


def test_only_one_installer_at_once(box: Box) -> None:
    phase = box.playbooks / "phase-accounts.yml"
    phase.write_text(phase.read_text().replace("sleep 0.2", "sleep 4"))
    first = box.start()
    deadline = time.monotonic() + 60
    while not box.attempts("accounts"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status, problem, _ = box.install()
    assert (status, problem["code"]) == (1, "install.running")
    assert str(first.pid) in problem["message"]
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert len(run_journal.list_runs(box.places.runs)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("when", ["before it begins", "in the middle"])
def test_full_disk_is_told_and_gone_on_with(box: Box, when: str) -> None:
    """The disk of the journals is full: one clear line, nothing goes on, and the same command ends well later."""
    state = box.places.state
    state.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(state)], check=False)
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        ballast = state / "ballast"
        if when == "in the middle":
            phase = box.playbooks / "phase-ground.yml"
            fill = f"sh -c 'test -e {ballast} || head -c 1M /dev/zero > {ballast} 2>/dev/null; true'"
            phase.write_text(phase.read_text().replace("sleep 0.2", f'{{cmd: "{fill}"}}'))
        else:
            ballast.write_bytes(bytes(255 << 10))
        status, problem, _ = box.install()
        assert (status, problem["code"]) == (1, "storage.full"), problem
        assert leftovers.marked("0001") == []
        ballast.write_bytes(b"")
        status, result, _ = box.install()
        assert status == 0, result
        assert all((box.out / phase / "file").is_file() for phase in _PHASES)
    finally:
        subprocess.run(["umount", str(state)], check=True)
