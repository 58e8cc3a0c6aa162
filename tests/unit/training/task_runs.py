"""Runs one training task in a job's directory, as the worker does, and stops it at a step where a test wants that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from appliance.jobs.spec import Environment, InputRef, JobKind, JobSpec
from appliance.jobs.workspace import Task, Workspace
from appliance.kernel.canonical import sha256_file
from appliance.kernel.events import Event, Progress

SEED: dict[str, Any] = {
    "vocabulary": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "context_length": 128,
    "sequence_length": 32,
    "steps": 4,
}
LORA: dict[str, Any] = {"rank": 4, "epochs": 2, "batch_size": 2, "max_length": 64}


class Stoppable(Workspace):
    """A workspace whose stop is requested once a step is reached; it keeps what was told."""

    stop_at = 1_000_000
    reached = 0

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Progress):
            self.reached = max(self.reached, event.step)
        super().emit(event)

    def stop_requested(self) -> bool:
        return self.reached >= self.stop_at

    def run(self, task: Task) -> dict[str, Any]:
        try:
            return task(self)
        finally:
            self.close()


def workspace(directory: Path, kind: JobKind, inputs: dict[str, Path], parameters: dict[str, Any]) -> Stoppable:
    for folder in ("in", "out", "checkpoints", "scratch"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    for name, source in inputs.items():
        if not (directory / "in" / name).exists():
            (directory / "in" / name).symlink_to(source, target_is_directory=True)
    spec = JobSpec(
        kind=kind,
        inputs={name: InputRef(ref=f"{name}@1", digest="0" * 64, files=()) for name in inputs},
        parameters=parameters,
        seed=7,
        environment=Environment(code="test", packages={}, threads=1, device="cpu", cpu="any"),
    )
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    return Stoppable(directory)


def digests(output: Path) -> dict[str, str]:
    return {str(path.relative_to(output)): sha256_file(path) for path in sorted(output.rglob("*")) if path.is_file()}
