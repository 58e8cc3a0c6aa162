"""Runs one task as the job process does, stopping it where a test wants: at a phase or at a step."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from appliance.jobs.spec import Environment, InputRef, JobKind, JobSpec
from appliance.jobs.workspace import Task, Workspace
from appliance.kernel.canonical import sha256_file
from appliance.kernel.events import Event, Progress


class StoppableJob(Workspace):
    """A job's directory whose stop is requested once a phase has reached a step."""

    stop_phase = ""
    stop_step = 0
    _reached = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Progress) and event.phase == self.stop_phase and event.step >= self.stop_step:
            self._reached = True
        super().emit(event)

    def stop_requested(self) -> bool:
        return self._reached


def run_task(
    task: Task,
    directory: Path,
    kind: JobKind,
    inputs: dict[str, Path],
    parameters: dict[str, Any] | None = None,
    *,
    seed: int = 7,
    stop: tuple[str, int] = ("", 0),
) -> tuple[dict[str, Any], StoppableJob]:
    """Lay the directory out anew, keeping its checkpoints, and run the task; whatever it raises comes through."""
    for folder in ("out", "scratch", "in"):
        shutil.rmtree(directory / folder, ignore_errors=True)
        (directory / folder).mkdir(parents=True)
    (directory / "checkpoints").mkdir(exist_ok=True)
    for name, source in inputs.items():
        (directory / "in" / name).symlink_to(source, target_is_directory=True)
    spec = JobSpec(
        kind=kind,
        inputs={name: InputRef(ref=f"{name}@1", digest="0" * 64, files=()) for name in inputs},
        parameters=parameters or {},
        seed=seed,
        environment=Environment(code="test", packages={}, threads=1, device="cpu", cpu="any"),
    )
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    job = StoppableJob(directory)
    job.stop_phase, job.stop_step = stop
    try:
        return task(job), job
    finally:
        job.close()


def digests(folder: Path) -> dict[str, str]:
    """Return every file's digest by its path."""
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
