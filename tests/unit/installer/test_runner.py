"""The runner with the real ansible-runner: it believes success on proof only, and secrets stay where they are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.kernel.errors import Conflict, InternalError, StorageFailure, Unavailable
from installer import leftovers
from installer.events import Failed, StepEvent, TaskDone, TaskStarted
from installer.runner import Counts, Playbook, run_playbook

_MARK = """
    - name: Mark the end
      ansible.builtin.copy:
        content: "{{ end_mark }}"
        dest: "{{ end_mark_file }}"
        mode: "0600"
      check_mode: false
      changed_when: false
"""
_HEAD = """---
- name: A play
  hosts: box
  gather_facts: false
  tasks:
"""

_TRUE = "\n    - ansible.builtin.command: /bin/true\n"

Run = Callable[..., Counts]


class Told(list[StepEvent]):
    """Every event that a run told."""

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def run(tmp_path: Path, memory: Path, told: Told) -> Run:
    def run(tasks: str, *, head: str = _HEAD, mark: str = _MARK, cancelled: Any = lambda: False, **more: Any) -> Counts:
        file = tmp_path / "phase.yml"
        file.write_text(head + tasks + mark)
        given: dict[str, Any] = {"file": file, "phase": "phase", "run": f"test-{os.getpid()}", "variables": {}} | more
        return run_playbook(Playbook(**given), scratch=memory / "scratch", on_event=told.append, cancelled=cancelled)

    return run


def test_success_counts_and_tells_tasks(run: Run, told: Told, tmp_path: Path) -> None:
    tasks = f"""
    - name: Write a file
      ansible.builtin.copy: {{content: hello, dest: {tmp_path}/out, mode: "0644"}}
    - name: Leave out
      ansible.builtin.command: /bin/false
      when: false
"""
    first = run(tasks)
    assert (first.ok, first.changed, first.skipped) == (2, 1, 1)
    assert [event.task for event in told.of(TaskStarted)] == ["Write a file", "Leave out", "Mark the end"]
    assert [event.outcome for event in told.of(TaskDone)] == ["changed", "skipped", "ok"]
    assert run(tasks).changed == 0


def test_check_mode_changes_nothing(run: Run, tmp_path: Path) -> None:
    counts = run(f'\n    - ansible.builtin.copy: {{content: hello, dest: {tmp_path}/out, mode: "0644"}}\n', check=True)
    assert counts.changed == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("tasks", "options", "said"),
    [
        (
            "\n    - ansible.builtin.command: /bin/true\n",
            {"head": _HEAD.replace("hosts: box", "hosts: nobody")},
            "no task",
        ),
        ("\n    - ansible.builtin.debug:\n    - ansible.builtin.meta: end_play\n", {}, "stopped before its end"),
        ("\n    - ansible.builtin.debug:\n    - ansible.builtin.meta: end_host\n", {}, "stopped before its end"),
        (_TRUE, {"mark": ""}, "stopped before its end"),
        ("\n    - name: Break\n      ansible.builtin.fail: {msg: the reason}\n", {}, "Break: the reason"),
        ("\n    - ansible.builtin.nonsense:\n", {}, "nonsense"),
        ("\n   - not: [yaml\n", {}, "YAML"),
    ],
    ids=["no host", "play ended", "host ended", "no mark", "failed task", "unknown module", "no YAML"],
)
def test_what_is_not_proven_is_a_failure(run: Run, told: Told, tasks: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InternalError, match=said) as caught:
        run(tasks, **options)
    assert caught.value.code == "run.failed"
    (failed,) = told.of(Failed)
    assert failed.line
    assert "\n" not in failed.line


def test_a_mark_of_somebody_else_is_no_proof(run: Run, memory: Path) -> None:
    forged = "\n    - ansible.builtin.copy: {content: forged, dest: '{{ end_mark_file }}', mode: '0600'}\n"
    with pytest.raises(InternalError, match="stopped before its end"):
        run(forged, mark="")


def test_failures_that_a_role_handles_are_no_failures(run: Run, told: Told) -> None:
    counts = run(
        """
    - name: May fail
      ansible.builtin.command: /bin/false
      changed_when: false
      ignore_errors: true
    - name: Rescue
      block:
        - name: Fails
          ansible.builtin.fail: {msg: handled}
      rescue:
        - name: Mends
          ansible.builtin.debug: {msg: mended}
"""
    )
    assert counts.ignored == 1
    assert not told.of(Failed)


def test_missing_playbook(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InternalError) as caught:
        run("", file=tmp_path / "none.yml")
    assert caught.value.code == "run.no_playbook"


def test_full_disk_is_told_as_such(run: Run) -> None:
    with pytest.raises(StorageFailure, match="No space left"):
        run("\n    - ansible.builtin.shell: cat /etc/passwd > /dev/full; echo later >&2; false\n")


def test_problem_of_our_own_verbs_is_told_as_it_is(run: Run) -> None:
    problem = '{"code":"lifeline.not_proven","message":"Nobody got in.","hint":"It is taken back.","exit_code":4}'
    with pytest.raises(InternalError, match=r"Say: Nobody got in\. It is taken back\.") as caught:
        run(f"\n    - name: Say\n      ansible.builtin.shell: echo '{problem}' >&2; exit 4\n")
    assert "exit_code" not in caught.value.message


def test_program_that_is_not_there(run: Run) -> None:
    with pytest.raises(InternalError, match="No such file or directory"):
        run("\n    - ansible.builtin.command: /nowhere/program\n")


def test_private_data_on_a_disk_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "phase.yml"
    file.write_text(_HEAD + _MARK)
    playbook = Playbook(file=file, phase="phase", run="r", variables={})
    with pytest.raises(Conflict, match="not in memory"):
        run_playbook(playbook, scratch=tmp_path / "disk", on_event=lambda event: None)


@pytest.mark.parametrize("how", ["timeout", "cancel", "handler breaks", "interrupt"])
def test_nothing_goes_on_after_the_end(run: Run, tmp_path: Path, memory: Path, how: str) -> None:
    class Broken(Exception):
        pass

    began = time.monotonic()
    tasks = "\n    - name: Take long\n      ansible.builtin.command: sleep 300\n      changed_when: true\n"

    def breaking(event: StepEvent) -> None:
        if isinstance(event, TaskStarted):
            raise KeyboardInterrupt if how == "interrupt" else Broken

    expected: type[BaseException] = {"handler breaks": Broken, "interrupt": KeyboardInterrupt}.get(how, Unavailable)
    file = tmp_path / "phase.yml"
    file.write_text(_HEAD + tasks + _MARK)
    name = f"long-{os.getpid()}"
    with pytest.raises(expected):
        run_playbook(
            Playbook(file=file, phase="phase", run=name, variables={}, timeout=3 if how == "timeout" else 60),
            scratch=memory,
            on_event=breaking if how in {"handler breaks", "interrupt"} else lambda event: None,
            cancelled=lambda: how == "cancel" and time.monotonic() - began > 3,
        )
    assert leftovers.marked(name) == []
    assert list(memory.iterdir()) == []


def test_secrets_stay_where_they_are(run: Run, told: Told, tmp_path: Path, memory: Path, monkeypatch: Any) -> None:
    """Canaries in a secret file and in our own environment: neither may be in an argument, environment or event."""
    canary, inherited = "canary-of-the-passphrase", "canary-of-the-environment"
    monkeypatch.setenv("SOMEBODY_ELSES_TOKEN", inherited)
    folder = memory / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "storage_passphrase").write_text(canary + "\n")
    tasks = """
    - name: Read it
      ansible.builtin.slurp: {src: "{{ secrets_directory }}/storage_passphrase"}
      register: passphrase
      no_log: true
    - name: Use it
      ansible.builtin.command: {cmd: sha256sum, stdin: "{{ passphrase.content | b64decode }}"}
      changed_when: false
      no_log: true
    - name: Wait to be looked at
      ansible.builtin.command: sleep 1
      changed_when: false
    - name: A role that forgot no_log
      ansible.builtin.fail: {msg: "It was {{ passphrase.content | b64decode }}"}
"""
    seen: set[bytes] = set()
    files: set[bytes] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for process in leftovers.marked(f"test-{os.getpid()}"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add(Path(f"/proc/{process.pid}/{name}").read_bytes())
                    except OSError:
                        continue
            for where, _, names in os.walk(memory / "scratch"):  # folders come and go; os.walk passes over them
                for name in names:
                    try:
                        files.add((Path(where) / name).read_bytes())
                    except OSError:
                        continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with pytest.raises(InternalError) as caught:
            run(tasks, variables={"secrets_directory": str(folder)}, secrets_directory=folder)
    finally:
        stop.set()
        watcher.join()
    assert any(b"ansible-playbook" in text for text in seen)
    assert any(b"sleep" in text for text in seen)
    places = b"\0".join(seen) + msgspec.json.encode(list(told)) + str(caught.value).encode()
    assert canary.encode() not in places
    assert inherited.encode() not in places
    assert inherited.encode() not in b"".join(files)
    assert "[hidden]" in str(caught.value)
    assert not list((memory / "scratch").iterdir())
    on_disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert canary.encode() not in on_disk
