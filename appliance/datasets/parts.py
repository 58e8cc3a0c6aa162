"""The two parts of a data set version as they are written: train.jsonl, heldout.jsonl, and the report beside them.

Whoever makes a version (an import, a split, a generator) adds canonical rows here and gets the same summary. The
report is the summary with every label; both speak of rows in figures, besides a few shortened samples.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from appliance.datasets.forms import LABELLED, Form
from appliance.datasets.prepare import HELDOUT, TRAIN
from appliance.datasets.statistics import Statistics, label_table
from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import fsync_directory
from appliance.kernel.errors import BadInput

REPORT: Final = "report.json"
_SAMPLES = 5
_SAMPLE_CHARACTERS = 400
_LABELS_SHOWN = 200
_LABELS_LIMIT = 10_000


class Parts:
    """Both files while they are written. Close it before the report is made."""

    def __init__(self, folder: Path, form: Form) -> None:
        self.folder = folder
        self.form = form
        self.figures = {TRAIN: Statistics(), HELDOUT: Statistics()}
        self._samples: list[dict[str, Any]] = []
        self._stack = ExitStack()
        self._streams = {
            side: self._stack.enter_context((folder / f"{side}.jsonl").open("xb")) for side in (TRAIN, HELDOUT)
        }

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, side: str, data: bytes, content: dict[str, Any]) -> None:
        """Write a row: its canonical JSON and the same as a value. Raises BadInput `dataset.too_many_labels`."""
        figures = self.figures[side]
        figures.add(content)
        if len(figures.labels) > _LABELS_LIMIT:
            raise BadInput(
                "dataset.too_many_labels",
                f"There are more than {_LABELS_LIMIT} different labels; is that column a label?",
                hint="Map label to the right column.",
            )
        self._streams[side].write(data.rstrip(b"\n") + b"\n")
        if len(self._samples) < _SAMPLES:
            self._samples.append(shortened(content))

    def flush(self) -> None:
        """Bring both files to the disk."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())

    def require_usable(self, *, name: str, why: str) -> None:
        """Raise BadInput where nothing is left to train on, or nothing to tell apart."""
        train = self.figures[TRAIN]
        if not train.rows:
            raise BadInput(
                "dataset.no_train_rows",
                f"{name} leaves no row to train on: {why}.",
                hint="Check its split column, or lower the share that is held out.",
            )
        if self.form is Form.CLASSIFICATION and len(train.labels) < 2:
            raise BadInput(
                "dataset.one_label",
                f"All {train.rows} training rows of {name} have one label; a classifier needs two to tell apart.",
                hint="Map label to the right column, or add rows of another class.",
            )

    def summary(self) -> dict[str, Any]:
        """Return what every version says of itself."""
        train, heldout = self.figures[TRAIN], self.figures[HELDOUT]
        document: dict[str, Any] = {
            "form": str(self.form),
            "train_rows": train.rows,
            "heldout_rows": heldout.rows,
            "rejected_rows": 0,
            "duplicate_rows": 0,
            "statistics": {
                "form": str(self.form),
                "rows": train.rows + heldout.rows,
                TRAIN: train.to_dict(),
                HELDOUT: heldout.to_dict(),
            },
            "personal": dict(sorted((train.personal + heldout.personal).items())),
            "samples": self._samples,
        }
        if self.form in LABELLED:
            document["labels"] = label_table(train.labels, heldout.labels)
        return document


def write_report(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Write report.json durably and return the summary as the registry keeps it: labels beyond 200 left out."""
    with (folder / REPORT).open("xb") as stream:
        stream.write(canonical_json(summary) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    fsync_directory(folder)
    if len(summary.get("labels", ())) > _LABELS_SHOWN:
        return summary | {"labels": summary["labels"][:_LABELS_SHOWN]}
    return summary


def shortened(content: dict[str, Any]) -> dict[str, Any]:
    """Return a sample whose texts are cut for display; spans of what was cut off are left out."""
    short: dict[str, Any] = {}
    for part, value in content.items():
        if isinstance(value, str):
            short[part] = _cut(value)
        elif part == "messages":
            short[part] = [message | {"content": _cut(message["content"])} for message in value]
        elif part == "meta":
            short[part] = value
        else:
            short[part] = [span for span in value if span["end"] < _SAMPLE_CHARACTERS]
    return short


def _cut(text: str) -> str:
    return text if len(text) <= _SAMPLE_CHARACTERS else text[: _SAMPLE_CHARACTERS - 1] + "…"
