"""Our loop against TRL: same weights, same batches, same optimiser, in turns, in processes of their own.

Losses are compared step by step; speed is tokens per processor second, as the median of pairwise ratios ours / TRL.
Processor seconds count, because wall time on a shared machine measures the neighbours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.comparison import Figure, at_least, at_most, ratios, turns
from benchmarks.job_runs import PATIENT
from benchmarks.training_case import Case, Load

ROOT: Final = Path(__file__).resolve().parent.parent
_TIMEOUT: Final = 1800.0
_PROGRAMS: Final = {
    "ours": [sys.executable, "-m", "benchmarks.train_with_ours"],
    "trl": [str(ROOT / ".venv-bench" / "bin" / "python"), "-m", "benchmarks.train_with_trl"],
}
SMALL: Final = Load(method="full")
BIGGER: Final = Load(
    method="full",
    steps=16,
    batch_size=2,
    length=256,
    hidden=768,
    feed_forward=2048,
    layers=12,
    heads=12,
    kv_heads=12,
    vocabulary=16384,
)
"""A tenth of a billion parameters."""


def losses_equal(scratch: Path, method: str) -> list[Figure]:
    """Return the largest difference of a loss over 40 steps."""
    case = _written(scratch, Load(method=method))
    ours, theirs = (_train(side, case) for side in ("ours", "trl"))
    apart = [abs(mine - other) for mine, other in zip(ours["losses"], theirs["losses"], strict=True)]
    if ours["losses"][0] == ours["losses"][-1]:
        raise RuntimeError(f"nothing was learnt in the case {method}, so equal losses say nothing")
    return [Figure(f"loss-difference-{method}", "nats", at_most(1e-5), [max(apart)])]


def speed(scratch: Path, name: str, load: Load, *, goal: float, pairs: int) -> list[Figure]:
    """Return the ratio of tokens per processor second, pair by pair in turns."""
    case = _written(scratch, load)
    rates: dict[str, list[float]] = {"ours": [], "trl": []}
    for order in turns("ours", "trl", pairs):
        for side in order:
            run = _train(side, case)
            rates[side].append(run["tokens"] / run["cpu_seconds"])
            print(f"{name} {side}: {rates[side][-1]:.0f} tokens per CPU second", file=sys.stderr)
    unit = "ratio to TRL of tokens per CPU second"
    return [Figure(f"speed-{name}", unit, at_least(goal), ratios(rates["ours"], rates["trl"]))]


def _written(scratch: Path, load: Load) -> Case:
    folder = scratch / f"{load.method}-{load.hidden}"
    folder.mkdir()
    case = Case(folder)
    case.write(load)
    return case


def _train(side: str, case: Case, *, threads: int = 1) -> dict[str, Any]:
    outcome = subprocess.run(
        [*_PROGRAMS[side], str(case.folder), str(threads)],
        cwd=ROOT,
        env={**os.environ, **PATIENT, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    if outcome.returncode != 0:
        raise RuntimeError(f"{side} failed: {outcome.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(outcome.stdout.strip().splitlines()[-1])
    return result
