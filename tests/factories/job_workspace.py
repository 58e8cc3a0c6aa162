"""A job directory as the daemon lays it out, for running one task inside a test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from appliance.jobs.spec import Environment, InputRef, JobKind, JobSpec
from appliance.jobs.workspace import Workspace


def make_workspace(
    directory: Path,
    kind: JobKind,
    *,
    inputs: dict[str, Path],
    parameters: dict[str, Any] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Workspace:
    """Lay out `directory` with copies of the input folders. Close the workspace when done."""
    for folder in ("out", "checkpoints", "scratch"):
        (directory / folder).mkdir(parents=True)
    for name, source in inputs.items():
        shutil.copytree(source, directory / "in" / name)
    spec = JobSpec(
        kind=kind,
        inputs={name: InputRef(ref=f"{name}:1", digest="0" * 64, files=()) for name in inputs},
        parameters=parameters or {},
        seed=seed,
        environment=Environment(code="test", packages={}, threads=threads, device="cpu", cpu="test"),
    )
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    return Workspace(directory)
