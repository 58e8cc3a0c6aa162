"""What conversion keeps of a model: greedy tokens in GGUF, perplexity after quantising, an adapter applied at run time.

    python -m benchmarks.conversion [--steps N] [--threads N]

A small model is trained on the shipped handbook and tuned on the shipped questions, by the very jobs of the product;
then the ladder and the adapter job measure. `figures` is what other benchmarks call with models of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.jobs.spec import Environment, InputRef, JobKind, JobSpec
from benchmarks.comparison import Figure, Goal, at_least, at_most, write_figures

ROOT = Path(__file__).resolve().parent.parent
_EXAMPLES = ROOT / "appliance" / "examples"
_TIMEOUT = 3600.0
_PATIENT = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "HF_HUB_OFFLINE": "1"}
"""As the daemon starts jobs: waiting threads must not take the processor from working ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A tuned model, what it was tuned from, and the data: folders as jobs leave them."""

    base: Path
    tuned: Path
    data: Path


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/conversion.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.conversion", description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="steps of the model that is tuned")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name:
        case = train_case(Path(name), steps=options.steps, threads=options.threads)
        found = figures(case, Path(name), threads=options.threads)
    path = write_figures("conversion", found)
    print(path.read_text(), end="")
    return 0


def train_case(root: Path, *, steps: int, threads: int) -> Case:
    """Train and tune with the product's jobs on the product's examples."""
    corpus = _job(root / "corpus", JobKind.IMPORT_DATASET, {}, _import("handbook"), threads=1)
    data = _job(root / "data", JobKind.IMPORT_DATASET, {}, _import("faq"), threads=1)
    base = _job(root / "base", JobKind.TRAIN_SEED, {"corpus": corpus.output}, {"steps": steps}, threads=threads)
    inputs = {"base": base.output, "dataset": data.output}
    tuned = _job(root / "tuned", JobKind.TRAIN_LORA, inputs, {"epochs": 2}, threads=threads)
    return Case(base=base.output, tuned=tuned.output, data=data.output)


def figures(case: Case, root: Path, *, threads: int) -> list[Figure]:
    """Run the ladder and the adapter job on a case; return their figures with the goals."""
    inputs = {"model": case.tuned, "dataset": case.data}
    ladder = _job(root / "ladder", JobKind.CONVERT_LADDER, inputs, {"imatrix": True}, threads=threads)
    # A conversion to f32 that is not equal ends the job; what is counted here is how many steps were near ties.
    parity = _job(root / "parity", JobKind.CONVERT_GGUF, inputs, {"dtype": "f32"}, threads=threads).summary["parity"]
    given = inputs | {"base": case.base, "adapter": case.tuned / "adapter"}
    adapter = _job(root / "adapter", JobKind.CONVERT_ADAPTER, given, {}, threads=threads).summary
    made = {one["name"]: one for one in ladder.summary["rungs"] if one["made"]}
    whole = at_least(100.0)
    found = [
        _share("gguf.f32_greedy_tokens_equal", parity["tokens_equal"], parity["tokens_total"], whole),
        _share("adapter.runtime_tokens_equal_to_merged", adapter["tokens_equal"], adapter["tokens_total"], whole),
        _share("adapter.base_alone_equal", adapter["tokens_equal_without_adapter"], adapter["tokens_total"], None),
        _figure("gguf.q8_0_perplexity_ratio", "ratio", at_most(1.02), made["Q8_0"]["perplexity_ratio"]),
    ]
    for name, one in made.items():
        low = name.lower()
        found += [
            _figure(f"ladder.{low}.perplexity_ratio", "ratio", None, one["perplexity_ratio"]),
            _figure(f"ladder.{low}.size", "ratio", None, one["size_ratio"]),
            _figure(f"ladder.{low}.decode", "ratio", None, one["decode_ratio"]),
            _figure(f"ladder.{low}.prefill", "ratio", None, one["prefill_ratio"]),
        ]
    return found


def _share(name: str, equal: int, total: int, goal: Goal | None) -> Figure:
    return _figure(name, "%", goal, 100.0 * equal / total)


def _figure(name: str, unit: str, goal: Goal | None, value: float) -> Figure:
    return Figure(id=name, unit=unit, goal=goal, runs=[value])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    output: Path
    summary: dict[str, Any]


def _import(name: str) -> dict[str, Any]:
    file = next(path for path in sorted(_EXAMPLES.iterdir()) if path.stem == name)
    return {"source": str(file), "name": name, "mapping": {}, "heldout_percent": 10}


def _job(
    directory: Path, kind: JobKind, inputs: Mapping[str, Path], parameters: dict[str, Any], *, threads: int
) -> _Done:
    """Run one job of the product in a directory of its own, as the daemon would."""
    (directory / "in").mkdir(parents=True)
    for name, source in inputs.items():
        (directory / "in" / name).symlink_to(source)
    spec = JobSpec(
        kind=kind,
        inputs={name: InputRef(ref=f"{name}@1", digest="0" * 64, files=()) for name in inputs},
        parameters=parameters,
        seed=0,
        environment=Environment(code="benchmark", packages={}, threads=threads, device="cpu", cpu="benchmark"),
    )
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    outcome = subprocess.run(
        [sys.executable, "-m", "appliance.jobs.worker", str(directory)],
        cwd=ROOT,
        env={**os.environ, **_PATIENT, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    if outcome.returncode != 0:
        told = directory / "error.json"
        raise RuntimeError(f"{kind} failed: {told.read_text() if told.exists() else outcome.stderr[-2000:]}")
    summary = json.loads((directory / "result.json").read_text())["summary"]
    return _Done(output=directory / "out", summary=summary)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
