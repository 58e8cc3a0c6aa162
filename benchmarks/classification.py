"""Classification on a real table: what the regression costs and reaches, what tuning adds, what a student keeps.

    python -m benchmarks.classification --data FOLDER --encoder FOLDER

Jobs run as the appliance runs them, each in a process of its own. CPU seconds count, because wall time on a shared
machine measures the neighbours. Without the table (banking77) and the encoder (all-MiniLM-L6-v2) there is nothing to
measure, and nothing is written.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.jobs.spec import Environment, FileEntry, InputRef, JobKind, JobSpec, TaskResult, manifest_digest
from appliance.kernel.canonical import canonical_json, sha256_file
from benchmarks.comparison import Figure, at_least, at_most, write_figures

ROOT = Path(__file__).resolve().parent.parent
_PATIENT = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_KEPT = [0, 2, 5]
_TIMED_TEXTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One job that ended well: its folder, its summary, what its process cost."""

    output: Path
    summary: dict[str, Any]
    cpu_seconds: float
    wall_seconds: float


def classification(work: Path, *, data: Path, encoder: Path, threads: int) -> list[Figure]:
    """Measure the regression, the tuning and the student; the goals are those of the product."""
    dataset = write_dataset(work / "data", data)
    inputs = {"base": encoder, "dataset": dataset}
    cheap = run_job(work / "baseline", JobKind.TRAIN_CLASSIFY, inputs, {"method": "baseline"}, threads=threads)
    tuned = run_job(work / "finetune", JobKind.TRAIN_CLASSIFY, inputs, {"method": "finetune"}, threads=threads)
    before, after = (tuned.summary["metrics"][f"{name}_accuracy"] for name in ("baseline", "finetune"))
    honest = after - before >= 0.005 or tuned.summary["verdict"] != "gain"
    taught = {"teacher": tuned.output, "dataset": dataset}
    student = run_job(work / "student", JobKind.TRAIN_DISTIL, taught, {"keep_layers": _KEPT}, threads=threads)
    halved = {"base": tuned.output, "dataset": dataset}
    narrow = run_job(work / "narrow", JobKind.TRAIN_PRUNE, halved, {"drop_channels": 0.5}, threads=threads)
    texts = [json.loads(line)["text"] for line in (dataset / "heldout.jsonl").read_text().splitlines()]
    speeds = {ran.output: texts_per_cpu_second(ran.output, texts) for ran in (tuned, student, narrow)}
    found = student.summary["metrics"]
    return [
        Figure("baseline_accuracy", "share", at_least(0.93), [cheap.summary["metrics"]["accuracy"]]),
        # Three minutes on two cores are 360 CPU seconds at most.
        Figure("baseline_job_cpu_seconds", "s", at_most(360), [cheap.cpu_seconds]),
        Figure("baseline_job_wall_seconds", "s", None, [cheap.wall_seconds]),
        Figure("finetune_accuracy", "share", None, [after]),
        Figure("finetune_gain", "share", None, [after - before]),
        Figure("finetune_p_value", "share", None, [tuned.summary["metrics"]["p_value"]]),
        Figure("finetune_gains_half_a_point_or_says_no_gain", "bool", at_least(1), [float(honest)]),
        Figure("finetune_cpu_seconds", "s", None, [tuned.summary["cpu_seconds"]["finetune"]]),
        Figure("student_accuracy", "share", None, [found["accuracy"]]),
        Figure("student_share_of_teacher", "share", at_least(0.985), [found["accuracy"] / after]),
        Figure("student_parameters_share", "share", None, [_share(student, "parameters", "teacher_parameters")]),
        Figure("student_size_share", "share", None, [_size(student.output) / _size(tuned.output)]),
        Figure("student_speed_ratio", "x", at_least(2), [speeds[student.output] / speeds[tuned.output]]),
        Figure("student_cpu_seconds", "s", None, [student.summary["cpu_seconds"]]),
        Figure("narrow_accuracy", "share", None, [narrow.summary["metrics"]["accuracy"]]),
        Figure("narrow_size_share", "share", None, [_size(narrow.output) / _size(tuned.output)]),
        Figure("narrow_speed_ratio", "x", None, [speeds[narrow.output] / speeds[tuned.output]]),
    ]


def write_dataset(folder: Path, source: Path) -> Path:
    """Write `train.csv` and `test.csv` (text, category) as the import leaves a data set for classification."""
    folder.mkdir(parents=True)
    for name, part in (("train", "train"), ("test", "heldout")):
        with (source / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            rows = [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(stream)]
        (folder / f"{part}.jsonl").write_bytes(b"".join(canonical_json(row) + b"\n" for row in rows))
    return folder


def run_job(
    directory: Path, kind: JobKind, inputs: dict[str, Path], parameters: dict[str, Any], *, threads: int
) -> Ran:
    """Run one job in a process of its own, as the daemon does. Raises RuntimeError with its error."""
    given = {}
    for name, source in inputs.items():
        (directory / "in").mkdir(parents=True, exist_ok=True)
        (directory / "in" / name).symlink_to(source, target_is_directory=True)
        files = tuple(
            FileEntry(path=file.name, digest=sha256_file(file), size=file.stat().st_size)
            for file in sorted(source.iterdir())
            if file.is_file()
        )
        given[name] = InputRef(ref=f"{name}@1", digest=manifest_digest(files), files=files)
    environment = Environment(code="benchmark", packages={}, threads=threads, device="cpu", cpu="")
    spec = JobSpec(kind=kind, inputs=given, parameters=parameters, seed=0, environment=environment)
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    spent, started = _children_cpu(), time.monotonic()
    outcome = subprocess.run(
        [sys.executable, "-m", "appliance.jobs.worker", str(directory)],
        cwd=ROOT,
        env={**os.environ, **_PATIENT, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if outcome.returncode != 0:
        error = directory / "error.json"
        raise RuntimeError(error.read_text() if error.exists() else outcome.stderr[-2000:])
    result = msgspec.json.decode((directory / "result.json").read_bytes(), type=TaskResult)
    return Ran(
        output=directory / "out",
        summary=result.summary,
        cpu_seconds=_children_cpu() - spent,
        wall_seconds=time.monotonic() - started,
    )


def texts_per_cpu_second(folder: Path, texts: Sequence[str]) -> float:
    """Return how many texts a classifier's folder labels in a CPU second, on one thread, by batches of like length."""
    import torch

    from appliance.training.sealed_chunks import by_length
    from appliance.weights.encoder import encode_texts, load_classifier, padded

    torch.set_num_threads(1)
    classifier, loaded, config = load_classifier(folder)
    encoded = encode_texts(loaded.tokenizer, list(texts[:_TIMED_TEXTS]), max_length=config.max_length)
    batches = [[encoded[row] for row in rows] for rows in by_length([len(row) for row in encoded], size=64)]
    with torch.inference_mode():
        classifier(*padded(batches[0], padding=loaded.padding))
        started = time.process_time()
        for rows in batches:
            classifier(*padded(rows, padding=loaded.padding))
    return len(encoded) / (time.process_time() - started)


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/classification.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.classification", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Folder of banking77: train.csv and test.csv.")
    parser.add_argument("--encoder", type=Path, required=True, help="Hugging Face folder of the encoder.")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="intramuros-bench-") as name:
        figures = classification(
            Path(name), data=options.data, encoder=options.encoder.resolve(), threads=options.threads
        )
    path = write_figures("classification", figures)
    print(path.read_text(), end="")
    return 0


def _share(ran: Ran, name: str, whole: str) -> float:
    return float(ran.summary[name] / ran.summary[whole])


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
