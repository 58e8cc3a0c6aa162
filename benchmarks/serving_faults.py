"""What must hold whatever tenants try and whichever engine dies: S12 and S14, without a peer.

`python -m benchmarks.serving_faults` writes benchmarks/results/serving-faults.json; benchmarks.serving runs the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.comparison import Figure, write_figures
from benchmarks.tenants import tenant_figures
from benchmarks.worker_faults import abort_figures, kill_figures
from tools.build_seed_model import provide

SCENARIOS: Final = ("S12", "S14")


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/serving-faults.json; fails when a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving_faults", description=__doc__)
    parser.add_argument("--model", type=Path, help="GGUF file; default: the model that a bundle carries")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name:
        figures = fault_figures(
            Path(name),
            options.model or provide(),
            threads=options.threads,
            kills=options.kills,
            scenarios=options.scenarios,
        )
    path = write_figures("serving-faults", figures)
    print(path.read_text(), end="")
    return 1 if any(figure.document()["met"] is False for figure in figures) else 0


def fault_figures(work: Path, model: Path, *, threads: int, kills: int, scenarios: list[str]) -> list[Figure]:
    """The figures of those of `scenarios` that are known here."""
    figures: list[Figure] = []
    if "S12" in scenarios:
        figures += tenant_figures(work, model, threads=threads)
        figures += abort_figures(work, model)
    if "S14" in scenarios:
        figures += kill_figures(work, model, threads=threads, kills=kills)
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
