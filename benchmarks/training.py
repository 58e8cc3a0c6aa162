"""Our training loop against TRL's SFTTrainer: same weights, same batches, same optimiser, in turns.

Reported are tokens per CPU second as the median of pairwise ratios ours / TRL, and the largest difference between the
two losses at any step. CPU seconds count, because wall time on a shared machine measures the neighbours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.comparison import median_ratio, spread, turns, write_result
from benchmarks.training_case import BATCH_SIZE, LENGTH, STEPS, Case

ROOT = Path(__file__).resolve().parent.parent
_PATIENT = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_TIMEOUT = 900.0


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/training.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    programs = {
        "ours": [sys.executable, "-m", "benchmarks.train_with_ours"],
        "trl": [str(ROOT / ".venv-bench" / "bin" / "python"), "-m", "benchmarks.train_with_trl"],
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name:
        case = Case(Path(name))
        case.write()
        for order in turns("ours", "trl", options.pairs):
            for side in order:
                found[side].append(_train(programs[side], case, options.threads))
    rates = {side: [run["tokens"] / run["cpu_seconds"] for run in runs] for side, runs in found.items()}
    mine, other = found["ours"][0]["losses"], found["trl"][0]["losses"]
    path = write_result(
        "training",
        {
            "case": {"steps": STEPS, "batch_size": BATCH_SIZE, "length": LENGTH, "threads": options.threads},
            "pairs": options.pairs,
            "tokens_per_cpu_second_ratio": round(median_ratio(rates["ours"], rates["trl"]), 3),
            "tokens_per_cpu_second": {side: spread(values) for side, values in rates.items()},
            "largest_loss_difference": max(abs(a - b) for a, b in zip(mine, other, strict=True)),
            "last_loss": {"ours": mine[-1], "trl": other[-1]},
        },
    )
    print(path.read_text(), end="")
    return 0


def _train(program: list[str], case: Case, threads: int) -> dict[str, Any]:
    outcome = subprocess.run(
        [*program, str(case.folder), str(threads)],
        cwd=ROOT,
        env={**os.environ, **_PATIENT, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    if outcome.returncode != 0:
        raise RuntimeError(f"{program[-1]} failed: {outcome.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(outcome.stdout.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
