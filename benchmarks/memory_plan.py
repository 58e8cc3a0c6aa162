"""Predicted against measured peak memory of training jobs: ten kinds of load on a random Llama, a few steps each.

The jobs are real ones, run by the worker; what they predicted and measured stands in their summaries.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from appliance.jobs.spec import JobKind
from benchmarks import job_runs
from benchmarks.comparison import Figure, at_most
from benchmarks.random_model import write_folder

_LONG: Final = {"batch_size": 4, "epochs": 1, "warmup_fraction": 0.0}
CONFIGURATIONS: Final[dict[str, tuple[JobKind, dict[str, Any]]]] = {
    "full": (JobKind.TRAIN_FULL, _LONG),
    "full, layers computed twice": (JobKind.TRAIN_FULL, _LONG | {"gradient_checkpointing": True, "batch_size": 8}),
    "full, accumulated, best kept": (
        JobKind.TRAIN_FULL,
        _LONG | {"accumulation": 2, "batch_size": 2, "evaluate_every": 1},
    ),
    "full, two ranks": (JobKind.TRAIN_FULL, _LONG | {"ranks": 2}),
    "lora": (JobKind.TRAIN_LORA, _LONG),
    "lora, rows of all lengths": (JobKind.TRAIN_LORA, {"batch_size": 4, "epochs": 2}),
    "lora, nf4, packed": (JobKind.TRAIN_LORA, _LONG | {"base_precision": "nf4", "packing": True}),
    "lora, bfloat16": (JobKind.TRAIN_LORA, _LONG | {"base_precision": "bfloat16", "precision": "bfloat16"}),
    "dpo": (JobKind.TRAIN_DPO, _LONG | {"batch_size": 2}),
    "pretrain, bfloat16": (
        JobKind.TRAIN_PRETRAIN,
        {"batch_size": 4, "epochs": 1, "warmup_fraction": 0.0, "precision": "bfloat16"},
    ),
}


def measure(
    scratch: Path, names: Collection[str] = (), *, layers: int = 8, hidden: int = 512, rows: int = 16
) -> dict[str, dict[str, float]]:
    """Return predicted, measured and error for each configuration, or for those of these names."""
    base = scratch / "base"
    write_folder(base, layers=layers, hidden=hidden, vocabulary=4096)
    data = _data(scratch, rows)
    found = {}
    for name, (kind, parameters) in CONFIGURATIONS.items():
        if names and name not in names:
            continue
        folder = scratch / name.replace(", ", "-").replace(" ", "-")
        folder.mkdir()
        inputs = {"base": base, **({"corpus": data} if kind is JobKind.TRAIN_PRETRAIN else {"dataset": data})}
        if "all lengths" in name:
            inputs["dataset"] = data / "lengths"
        if kind is JobKind.TRAIN_DPO:
            inputs["dataset"] = data / "pairs"
        summary = job_runs.run(folder, kind, inputs=inputs, parameters=parameters).summary
        found[name] = {key: summary[f"memory_{key}"] for key in ("predicted", "measured", "error")}
        print(f"{name:<32}{found[name]}", file=sys.stderr)
    return found


def figures(scratch: Path) -> list[Figure]:
    """Return the largest error of all configurations as the figure of this benchmark."""
    errors = [abs(one["error"]) for one in measure(scratch).values()]
    return [Figure("memory-plan-largest-error", "part of the prediction", at_most(0.15), [max(errors)])]


def _data(scratch: Path, rows: int) -> Path:
    """Write chats, texts and pairs of nearly 512 tokens."""
    folder = scratch / "data"
    words = " ".join(f"import os.path.join number {n} return" for n in range(40))
    turns = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": words}]
    chats = [{"messages": turns, "text": ""} for _ in range(rows)]
    texts = [{"messages": [], "text": words} for _ in range(rows)]
    pairs = [{"messages": turns[:1], "chosen": words, "rejected": words} for _ in range(rows)]
    lengths = [
        {"messages": [turns[0], {"role": "assistant", "content": " ".join(["return"] * number)}]}
        for number in range(1, 400)
    ]
    for name, content in (("", [*chats, *texts]), ("pairs", pairs), ("lengths", lengths)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for part, kept in (("train", content), ("heldout", content[:4])):
            lines = "\n".join(json.dumps(row) for row in kept)
            (folder / name / f"{part}.jsonl").write_text(lines)
    return folder


def main(names: list[str]) -> int:
    """Print the table as JSON, of the configurations of these names alone if there are any."""
    with tempfile.TemporaryDirectory(prefix="intramuros-memory-") as name:
        print(json.dumps(measure(Path(name), names), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
