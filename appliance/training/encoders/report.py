"""What a classification run leaves for people below `report/`: report.json, confusion.csv, predictions.jsonl.

The figures of each method on the held-out rows, the verdict between them, and every single prediction. The same
numbers give the same bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import write_file
from appliance.training.encoders.labelled import LabelledData
from appliance.training.encoders.verdict import confusion, macro_f1, macro_f1_interval, per_label, wilson

FOLDER: Final = "report"
_WORST: Final = 10

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A method's figures on the held-out rows."""

    accuracy: float
    macro_f1: float
    found: npt.NDArray[np.int64]
    document: dict[str, Any]
    """the same and more, as it stands in the report"""

    def right(self, wanted: npt.NDArray[np.int64]) -> list[bool]:
        """Say of each held-out row whether its label was found."""
        return [bool(value) for value in self.found == wanted]


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One line of predictions.jsonl."""

    text: str
    label: str
    got: str
    score: float
    correct: bool


def measure(scores: Scores, data: LabelledData, *, seed: int) -> Measured:
    """Measure scores (logits, held-out rows x labels)."""
    wanted = np.asarray(data.numbers(data.heldout), np.int64)
    found = scores.argmax(1).astype(np.int64)
    count, labels = len(wanted), len(data.labels)
    right = int((found == wanted).sum())
    accuracy, f1 = right / count, macro_f1(wanted, found, labels=labels)
    return Measured(
        accuracy=accuracy,
        macro_f1=f1,
        found=found,
        document={
            "accuracy": round(accuracy, 6),
            "accuracy_interval": _rounded(wilson(right, count)),
            "macro_f1": round(f1, 6),
            "macro_f1_interval": _rounded(macro_f1_interval(wanted, found, labels=labels, seed=seed)),
            "labels": per_label(wanted, found, data.labels),
        },
    )


def write_report(output: Path, report: dict[str, Any], data: LabelledData, scores: Scores, chosen: Measured) -> None:
    """Write the three files below `output`."""
    folder = output / FOLDER
    folder.mkdir()
    wanted = np.asarray(data.numbers(data.heldout), np.int64)
    matrix = confusion(wanted, chosen.found, labels=len(data.labels))
    whole = report | {"confusions": _worst(matrix, data.labels)}
    write_file(folder / "report.json", msgspec.json.format(canonical_json(whole)) + b"\n")
    write_file(folder / "confusion.csv", _table(matrix, data.labels))
    chances = _softmax(scores)
    lines = [
        msgspec.json.encode(
            Prediction(
                text=row.text,
                label=row.label,
                got=data.labels[found],
                score=round(float(chance[found]), 6),
                correct=data.labels[found] == row.label,
            )
        )
        for row, found, chance in zip(data.heldout, chosen.found, chances, strict=True)
    ]
    write_file(folder / "predictions.jsonl", b"".join(line + b"\n" for line in lines))


def _worst(matrix: npt.NDArray[np.int64], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the pairs of labels that are confused most."""
    pairs = [
        {"label": labels[row], "got": labels[column], "rows": int(matrix[row, column])}
        for row, column in np.argwhere(matrix > 0)
        if row != column
    ]
    return sorted(pairs, key=lambda pair: (-int(str(pair["rows"])), pair["label"], pair["got"]))[:_WORST]


def _table(matrix: npt.NDArray[np.int64], labels: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label \\ got", *labels])
    writer.writerows([label, *row.tolist()] for label, row in zip(labels, matrix, strict=True))
    return text.getvalue().encode()


def _softmax(scores: Scores) -> Scores:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True), np.float32)


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(end, 6) for end in interval]
