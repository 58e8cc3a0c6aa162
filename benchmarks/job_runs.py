"""Runs one job in a process of its own, as the daemon does, without a daemon: lays out its folder, starts the worker.

Knows the layout of a job's folder and nothing of what a kind does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.jobs.spec import Environment, FileEntry, InputRef, JobKind, JobSpec, TaskResult, manifest_digest
from appliance.kernel.canonical import sha256_file
from appliance.kernel.courtesy import NICENESS_VARIABLE

PATIENT = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
}
"""What every job's environment has."""


def lay_out(
    directory: Path, kind: JobKind, *, inputs: Mapping[str, Path], parameters: Mapping[str, Any], threads: int = 1
) -> None:
    """Write a job's folder; inputs become links."""
    refs = {}
    for name, source in inputs.items():
        (directory / "in").mkdir(parents=True, exist_ok=True)
        link = directory / "in" / name
        if not link.exists():
            link.symlink_to(source, target_is_directory=True)
        files = tuple(
            FileEntry(path=path.name, digest=sha256_file(path), size=path.stat().st_size)
            for path in sorted(source.iterdir())
            if path.is_file()
        )
        refs[name] = InputRef(ref=f"{name}@1", digest=manifest_digest(files), files=files)
    spec = JobSpec(
        kind=kind,
        inputs=refs,
        parameters=dict(parameters),
        seed=0,
        environment=Environment(code="benchmark", packages={}, threads=threads, device="cpu", cpu="any"),
    )
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))


def start(directory: Path, *, threads: int = 1, niceness: int = 0) -> subprocess.Popen[bytes]:
    """Start the worker of a job's folder."""
    with (directory / "process.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "appliance.jobs.worker", str(directory)],
            env={**os.environ, **PATIENT, "OMP_NUM_THREADS": str(threads), NICENESS_VARIABLE: str(niceness)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def outcome(directory: Path) -> TaskResult | None:
    """Return what a job sealed, or None when it did not end well."""
    sealed = directory / "result.json"
    return msgspec.json.decode(sealed.read_bytes(), type=TaskResult) if sealed.exists() else None


def run(
    directory: Path, kind: JobKind, *, inputs: Mapping[str, Path], parameters: Mapping[str, Any], threads: int = 1
) -> TaskResult:
    """Run a job to its end. Raises RuntimeError with its log when it fails."""
    lay_out(directory, kind, inputs=inputs, parameters=parameters, threads=threads)
    start(directory, threads=threads).wait()
    sealed = outcome(directory)
    if sealed is None:
        problem = directory / "error.json"
        said = problem.read_text() if problem.exists() else (directory / "process.log").read_text()[-2000:]
        raise RuntimeError(f"the job {kind} failed: {said}")
    return sealed
