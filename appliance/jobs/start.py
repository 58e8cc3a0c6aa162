"""Starts a job's process on its directory, with an environment that decides its speed and its bits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from appliance.jobs.spec import JobSpec
from appliance.kernel.courtesy import NICENESS_VARIABLE
from appliance.kernel.process import start


def start_job(
    directory: Path,
    spec: JobSpec,
    *,
    niceness: int,
    prefix: tuple[str, ...] = (),
    marks: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start the process; `prefix` takes the network from it, `marks` are how it is found again."""
    return start(
        [*prefix, sys.executable, "-I", "-m", "appliance.jobs.worker", str(directory)],
        log=directory / "process.log",
        extra_environment=_environment(spec) | {NICENESS_VARIABLE: str(niceness)} | dict(marks or {}),
        directory=directory,
    )


def _environment(spec: JobSpec) -> dict[str, str]:
    """Return what decides a job's speed and bits: passive waiting, its thread count, no hub."""
    threads = str(spec.environment.threads)
    return {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
