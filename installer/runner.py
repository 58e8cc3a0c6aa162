"""Runs one playbook through ansible-runner, and believes it only on proof.

The one importer of ansible_runner, because that library fails open and keeps what it is given:

- No host matched, or the playbook stopped early, is "successful" there. Here success is: status successful, every host
  of the inventory processed, no failure, nobody unreachable, and the nonce that the playbook's last task writes.
- It hands the caller's whole environment on and keeps events, output and arguments on disk. Here the environment is a
  list of our own, the working folder lies in memory and is removed, and no event is kept.
- After a timeout the module goes on. Here every process of the run carries a mark and is ended.

Variables carry no secrets: those are files (`installer.secrets`) that tasks with no_log read.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from appliance.kernel.errors import (
    InternalError,
    IntramurosError,
    StorageFailure,
    Unavailable,
    storage_errors,
)
from appliance.kernel.problem import Problem
from appliance.kernel.process import child_environment
from appliance.kernel.terminal import harmless
from installer import leftovers
from installer.events import Failed, Outcome, StepEvent, TaskDone, TaskStarted
from installer.secrets import Scrubber, require_memory

HOST = "box"
_INTERPRETER = "/usr/bin/python3"
_LINE_LIMIT = 400
_GRACE = 10.0
_POLL = 0.5
_OUTCOMES: dict[str, Outcome] = {
    "runner_on_ok": "ok",
    "runner_on_skipped": "skipped",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "failed",
    "runner_on_async_failed": "failed",
}
_ANSIBLES_OWN = {"Gathering Facts": "Look at the machine"}
"""Names of tasks that no role names."""
_NOT_RUN = "Error executing command."
_NO_SPACE = "No space left on device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Playbook:
    """What to run: a playbook by its file, what it is told, and how long it may take."""

    file: Path
    phase: str
    run: str
    variables: Mapping[str, Any]
    secrets_directory: Path | None = None
    check: bool = False
    timeout: float = 3600.0
    hosts: tuple[str, ...] = (HOST,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a playbook that succeeded did."""

    ok: int
    changed: int
    skipped: int
    ignored: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What the events told so far."""

    stats: dict[str, Any] | None = None
    failure: Failed | None = None
    broken: BaseException | None = None
    last_lines: list[str] = field(default_factory=list)
    cancelled: bool = False
    timed_out: bool = False
    began: float = field(default_factory=time.monotonic)


OnEvent = Callable[[StepEvent], None]
Cancelled = Callable[[], bool]


def run_playbook(
    playbook: Playbook, *, scratch: Path, on_event: OnEvent, cancelled: Cancelled = lambda: False
) -> Counts:
    """Run a playbook to its proven end. `scratch` is a folder in memory for this run's private data.

    Raises InternalError (it failed; the event `Failed` told the line), Unavailable (timed out or cancelled),
    StorageFailure (disk full), and whatever `on_event` raised. No process of the run is alive afterwards.
    """
    if not playbook.file.is_file():
        raise InternalError("run.no_playbook", f"There is no playbook {playbook.file}.", hint="Is the bundle complete?")
    seen = _Seen()
    with _private_data(scratch) as private:
        nonce, mark = secrets.token_hex(16), private / "end_mark"
        scrub = Scrubber(playbook.secrets_directory)
        try:
            status, code = _drive(playbook, private, nonce, mark, seen, scrub, on_event, cancelled)
        finally:
            # Also when we are interrupted: what goes on changing the machine must not outlive us.
            leftovers.end(playbook.run, grace=_GRACE if sys.exc_info()[0] is None else 0.0)
        if seen.broken is not None:
            raise seen.broken
        reason = _refusal(playbook, seen, status, code, _read(mark) == nonce)
    if reason is None and seen.stats is not None:
        return _counts(seen)
    raise _failure(playbook, seen, scrub(reason or "it told no result"), on_event)


def _drive(
    playbook: Playbook,
    private: Path,
    nonce: str,
    mark: Path,
    seen: _Seen,
    scrub: Scrubber,
    on_event: OnEvent,
    cancelled: Cancelled,
) -> tuple[str, int | None]:
    """Hand the playbook to ansible-runner; returns its status and exit status, which prove nothing yet."""
    from ansible_runner.config.runner import RunnerConfig
    from ansible_runner.runner import Runner

    with storage_errors(f"preparing {playbook.phase}"):
        inventory = _write_inventory(private, playbook.hosts)
        variables = {**playbook.variables, "end_mark": nonce, "end_mark_file": str(mark)}
        _write_private_file(private / "env" / "extravars", json.dumps(variables))
        # Settings that are passed to the library are forgotten when there is no such file.
        settings = {"pexpect_timeout": _POLL, "suppress_output_file": True, "suppress_ansible_output": True}
        _write_private_file(private / "env" / "settings", json.dumps(settings))
        config = RunnerConfig(
            private_data_dir=str(private),
            playbook=str(playbook.file),
            inventory=str(inventory),
            ident="run",
            quiet=True,
            fact_cache_type="memory",
            process_isolation=False,
            suppress_env_files=True,
            cmdline="--check --diff" if playbook.check else None,
        )
        config.prepare()
    config.env = _environment(config.env, private, playbook)
    # ansible-runner would look for the program on our own PATH, not on the child's.
    config.command[0] = str(Path(sys.executable).parent / "ansible-playbook")

    def on_ansible_event(event: dict[str, Any]) -> bool:
        if seen.broken is None:
            try:
                for told in _translate(event, playbook.phase, seen, scrub):
                    on_event(told)
            except BaseException as error:  # noqa: BLE001  raised again after the run: here it would leave processes
                seen.broken = error
        return False  # keep no event on disk

    def stop() -> bool:
        seen.cancelled = seen.cancelled or cancelled()
        seen.timed_out = time.monotonic() - seen.began > playbook.timeout
        if not (seen.cancelled or seen.timed_out or seen.broken is not None):
            return False
        leftovers.end(playbook.run, grace=_GRACE)
        return True

    runner = Runner(config, event_handler=on_ansible_event, cancel_callback=stop)
    status, code = runner.run()
    return str(status), code


@contextlib.contextmanager
def _private_data(scratch: Path) -> Iterator[Path]:
    """Make a folder in memory for one run, and remove it."""
    with storage_errors(f"making {scratch}"):
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        require_memory(scratch)
        private = scratch / f"ansible-{secrets.token_hex(6)}"
        for folder in (private, private / "env", private / "tmp", private / "home"):
            folder.mkdir(mode=0o700)
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _write_inventory(private: Path, hosts: tuple[str, ...]) -> Path:
    path = private / "hosts"
    lines = [f"{host} ansible_connection=local ansible_python_interpreter={_INTERPRETER}\n" for host in hosts]
    _write_private_file(path, "".join(lines))
    return path


def _write_private_file(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _environment(prepared: Mapping[str, str], private: Path, playbook: Playbook) -> dict[str, str]:
    """Return all that ansible sees of an environment. Nothing of the system's own ansible set-up takes part."""
    config = private / "ansible.cfg"
    _write_private_file(config, "[defaults]\n")
    runner_own = (
        "AWX_ISOLATED_DATA_DIR",
        "ANSIBLE_CALLBACK_PLUGINS",
        "ANSIBLE_STDOUT_CALLBACK",
        "RUNNER_OMIT_EVENTS",
        "RUNNER_ONLY_FAILED_EVENTS",
    )
    callbacks = prepared["ANSIBLE_CALLBACK_PLUGINS"].rpartition(":")[2]  # the library's, not the caller's
    kept = {name: prepared[name] for name in runner_own if name in prepared} | {"ANSIBLE_CALLBACK_PLUGINS": callbacks}
    base = {name: value for name, value in child_environment().items() if name in {"HOME", "TZ"}}
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        **base,
        **kept,
        leftovers.MARK: playbook.run,
        "PATH": path,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(private / "home"),
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(private / "tmp"),
        "TMPDIR": str(private / "tmp"),  # a run mounts /tmp, which would hide what a module unpacked there
        "ANSIBLE_ROLES_PATH": str(playbook.file.parent / "roles"),
        "ANSIBLE_LIBRARY": str(playbook.file.parent / "library"),
        "ANSIBLE_COLLECTIONS_PATH": str(private / "home" / "collections"),
        "ANSIBLE_CACHE_PLUGIN": "memory",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_FORCE_COLOR": "False",
        "ANSIBLE_FORKS": "1",
        "ANSIBLE_LOG_PATH": "",
    }


def _translate(event: Mapping[str, Any], phase: str, seen: _Seen, scrub: Scrubber) -> Iterator[StepEvent]:
    """Turn one event of ansible into ours, taking names and outcomes and leaving arguments and output behind."""
    kind, data = event.get("event", ""), event.get("event_data") or {}
    if kind == "playbook_on_stats":
        seen.stats = data
    elif kind == "playbook_on_task_start":
        yield TaskStarted(phase=phase, role=str(data.get("role") or ""), task=_name(data))
    elif kind in _OUTCOMES:
        result = data.get("res") or {}
        outcome: Outcome = _OUTCOMES[kind]
        if outcome == "failed" and data.get("ignore_errors"):
            outcome = "ignored"
        elif outcome == "ok" and result.get("changed"):
            outcome = "changed"
        role = str(data.get("role") or "")
        yield TaskDone(
            phase=phase, role=role, task=_name(data), outcome=outcome, seconds=float(data.get("duration") or 0)
        )
        if outcome == "failed":
            line = _one_line(scrub(_reason(result)))
            # A rescued block goes on after this, so it is only told when the run did not end well.
            seen.failure = Failed(phase=phase, role=role, task=_name(data), line=line)
    elif kind in {"verbose", "error", "system_warning", "warning"} and (text := str(event.get("stdout") or "").strip()):
        seen.last_lines = [*seen.last_lines, scrub(text)][-8:]


def _name(data: Mapping[str, Any]) -> str:
    full = str(data.get("task") or data.get("name") or "")
    role = str(data.get("role") or "")
    return _ANSIBLES_OWN.get(full) or harmless(full.removeprefix(f"{role} : "))


def _reason(result: Mapping[str, Any]) -> str:
    """Return what a failed task said: of a loop, what its first failed item said."""
    for item in result.get("results") or ():
        if isinstance(item, Mapping) and item.get("failed"):
            result = item
            break
    parts = [str(result.get("msg") or "").strip()]
    if parts == [_NOT_RUN]:  # ansible keeps the reason in a traceback
        parts.append(os.strerror(int(result.get("rc") or 0)))
    if error := str(result.get("stderr") or result.get("module_stderr") or "").strip():
        lines = error.splitlines()
        if (problem := _own_problem(lines[-1])) is not None:
            return f"{problem.message} {problem.hint}".strip()
        parts.append(next((line for line in lines if _NO_SPACE in line), lines[-1]))
    return ": ".join(part for part in parts if part) or "no reason was given"


def _own_problem(line: str) -> Problem | None:
    """Return what one of our own verbs reported with --json."""
    try:
        return msgspec.json.decode(line, type=Problem)
    except msgspec.DecodeError:
        return None


def _one_line(text: str) -> str:
    line = " ".join(harmless(text).split())
    return line if len(line) <= _LINE_LIMIT else line[: _LINE_LIMIT - 1] + "…"


def _refusal(playbook: Playbook, seen: _Seen, status: str, code: int | None, marked: bool) -> str | None:
    """Return why the run did not succeed; None only when everything that proves success is there."""
    if seen.failure is not None and status != "successful":
        return f"{seen.failure.role + ': ' if seen.failure.role else ''}{seen.failure.task}: {seen.failure.line}"
    if status != "successful" or code != 0:
        return " ".join(seen.last_lines) or f"ansible ended with {status} ({code})"
    if seen.stats is None:
        return "ansible told no result"
    processed = seen.stats.get("processed") or {}
    if absent := [host for host in playbook.hosts if host not in processed]:
        return f"no task was run on {', '.join(absent)}"
    if bad := {**(seen.stats.get("failures") or {}), **(seen.stats.get("dark") or {})}:
        return f"tasks failed on {', '.join(sorted(bad))}"
    if not marked:
        return "the playbook stopped before its end"
    return None


def _counts(seen: _Seen) -> Counts:
    stats = seen.stats or {}
    total = {name: sum((stats.get(name) or {}).values()) for name in ("ok", "changed", "skipped", "ignored")}
    return Counts(**total, seconds=round(time.monotonic() - seen.began, 3))


def _failure(playbook: Playbook, seen: _Seen, reason: str, on_event: OnEvent) -> IntramurosError:
    if seen.timed_out:
        reason = f"it did not end within {playbook.timeout:.0f} s"
    elif seen.cancelled:
        reason = "it was cancelled"
    line = _one_line(reason)
    failed = seen.failure
    on_event(
        Failed(phase=playbook.phase, role=failed.role if failed else "", task=failed.task if failed else "", line=line)
    )
    again = "What was done stays; the same command goes on from here."
    if seen.timed_out or seen.cancelled:
        return Unavailable("run.stopped", f"Phase {playbook.phase}: {line}.", hint=again)
    if _NO_SPACE in reason:
        return StorageFailure(
            "storage.full",
            f"No space left on the disk in phase {playbook.phase}: {line}",
            hint=f"Free some space. {again}",
        )
    return InternalError("run.failed", f"Phase {playbook.phase} failed: {line}", hint=again)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def forget_scratch(scratch: Path) -> None:
    """Remove what a killed installer left in memory."""
    for left in scratch.glob("ansible-*"):
        if not left.is_symlink() and left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
