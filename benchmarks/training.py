"""`make bench-training`: every figure of the training half against its goal, into benchmarks/results/training.json.

One table of scenarios; each is a function that gets an empty folder and returns figures. `--only ID` measures one and
keeps the figures of the others as they are in the file. What needs data from outside the repository is measured by
`benchmarks.classification` and `benchmarks.personal_data`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import beside_a_job, conversion, kill_resume, memory_plan, training_peer
from benchmarks.comparison import RESULTS, Figure, keep_figures

Scenario = Callable[[Path], list[Figure]]

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "losses-full": lambda scratch: training_peer.losses_equal(scratch, "full"),
    "losses-lora": lambda scratch: training_peer.losses_equal(scratch, "lora"),
    "losses-dpo": lambda scratch: training_peer.losses_equal(scratch, "dpo"),
    "speed-small": lambda scratch: training_peer.speed(scratch, "small-model", training_peer.SMALL, goal=1.25, pairs=5),
    "speed-0.1b": lambda scratch: training_peer.speed(scratch, "0.1b-model", training_peer.BIGGER, goal=1.0, pairs=3),
    "memory-plan": memory_plan.figures,
    "kill-resume": lambda scratch: kill_resume.kills(scratch, count=50),
    "damaged-checkpoints": lambda scratch: kill_resume.damages(scratch, count=30),
    "beside-a-job": beside_a_job.figures,
    "conversion": lambda scratch: conversion.figures(
        conversion.train_case(scratch, steps=300, threads=1), scratch, threads=1
    ),
}
"""Scenario -> what measures it."""


def main(arguments: list[str], *, scenarios: Mapping[str, Scenario] = SCENARIOS, results: Path = RESULTS) -> int:
    """Measure and write the result file; exit status 1 when a goal is not met."""
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    parser.add_argument("--only", choices=scenarios, action="append", help="measure this one; may be repeated")
    options = parser.parse_args(arguments)
    found: dict[str, dict[str, Any]] = {}
    for name in options.only or scenarios:
        print(f"{name} …", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as scratch:
            measured = scenarios[name](Path(scratch))
        for figure in measured:
            found[figure.id] = figure.document()
            print(json.dumps(found[figure.id]), file=sys.stderr)
        # Written after each, so that an interrupted measurement keeps what it has.
        keep_figures("training", measured, folder=results)
    return 0 if all(document["met"] is not False for document in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
