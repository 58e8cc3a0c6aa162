"""The job that divides a stored data set anew: the same rows, other sides, a new version.

in/data/…  ->  out/train.jsonl, heldout.jsonl, rejected.jsonl, report.json. Parameters: `name`, `by`, `train`,
`heldout`, `drop_near` (0 keeps what is nearly the same). A training row that asks what a held-out row asks is set
aside; where asked for, so is one that nearly does, and one that nearly repeats an earlier one.
"""

from __future__ import annotations

import os
from typing import Any

from appliance.datasets.aside import REJECTED, Aside
from appliance.datasets.forms import Form
from appliance.datasets.near import NearIndex
from appliance.datasets.parts import Parts, write_report
from appliance.datasets.prepare import HELDOUT, TRAIN, prompt_digest
from appliance.datasets.rows import Rejected, form_of, prompt_of, texts_of
from appliance.datasets.split import LEFT_OUT, Split, Way, parse_way, sides_of, what_decides
from appliance.datasets.stored import SIDES, read_part, read_report
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput, storage_errors
from appliance.kernel.events import Note, Progress

_CHECK_EVERY = 256


def run(workspace: Workspace) -> dict[str, Any]:
    """Write the new parts and return the summary. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    given = workspace.spec.parameters
    way = parse_way(given.get("by"), train=given.get("train"), heldout=given.get("heldout"), seed=workspace.spec.seed)
    with storage_errors("splitting a data set"), (workspace.output / REJECTED).open("xb") as stream:
        splitter = _Splitter(workspace, way, Aside(stream=stream), drop_near=float(given.get("drop_near", 0)))
        summary = splitter.run()
        stream.flush()
        os.fsync(stream.fileno())
        summary = write_report(workspace.output, summary)
    workspace.emit(Progress(phase="split", fraction=1.0))
    return summary


class _Splitter:
    def __init__(self, workspace: Workspace, way: Way, aside: Aside, *, drop_near: float) -> None:
        self._workspace = workspace
        self._folder = workspace.input("data")
        self._way = way
        self._aside = aside
        self._drop_near = drop_near
        self._left_out = 0

    def run(self) -> dict[str, Any]:
        form, sides = self._decide()
        asked: set[bytes] = set()
        held = NearIndex(threshold=self._drop_near or 1.0)
        kept = NearIndex(threshold=self._drop_near or 1.0)
        number = 0
        with Parts(self._workspace.output, form) as parts:
            # Twice over the rows: what is held out is known before a training row is written.
            for wanted in (HELDOUT, TRAIN):
                places = iter(sides)
                for part in SIDES:
                    for line, data, content in read_part(self._folder, part):
                        number += 1
                        self._tell(number / (2 * len(sides) + 1))
                        if next(places) != wanted:
                            continue
                        if wanted == HELDOUT:
                            asked.add(prompt_digest(content))
                            if self._drop_near:
                                held.place(number, prompt_of(content))
                        elif reason := self._reason_to_drop(content, asked, held, kept, number):
                            self._aside.add(Rejected(line=line, code=reason[0], reason=reason[1], file=f"{part}.jsonl"))
                            continue
                        parts.add(wanted, data, content)
            parts.flush()
        parts.require_usable(name="the data set", why=f"{parts.figures[HELDOUT].rows} rows are held out")
        return self._summary(parts)

    def _decide(self) -> tuple[Form, list[str]]:
        """Return the form and the side of every row, in the order of the stored parts."""
        deciding: list[Split] = []
        open_places: list[int] = []
        sides: list[str] = []
        form: Form | None = None
        for part in SIDES:
            for line, _, content in read_part(self._folder, part):
                form = form or form_of(content)
                decides = what_decides(content, prompt_digest(content), self._way)
                sides.append(LEFT_OUT)
                if decides is None:
                    reason = f"it has no {'time' if self._way.by == 'time' else 'value'} in the column"
                    self._aside.add(Rejected(line=line, code="row.split_column", reason=reason, file=f"{part}.jsonl"))
                    continue
                open_places.append(len(sides) - 1)
                deciding.append(decides)
        if form is None or not deciding:
            raise BadInput(
                "dataset.split_by",
                f"No row has what to split by {self._way.by}:{self._way.column}.",
                hint="Import the data set again with --keep COLUMN.",
            )
        for place, side in zip(open_places, sides_of(deciding, self._way), strict=True):
            sides[place] = side
            self._left_out += side == LEFT_OUT
        return form, sides

    def _reason_to_drop(
        self, content: dict[str, Any], asked: set[bytes], held: NearIndex, kept: NearIndex, number: int
    ) -> tuple[str, str] | None:
        if prompt_digest(content) in asked:
            return "row.leak", "a held-out row asks the same"
        if self._drop_near:
            if held.find(prompt_of(content)) is not None:
                return "row.near_leak", "a held-out row asks nearly the same"
            if kept.place(number, "\n".join(texts_of(content))) is not None:
                return "row.near_duplicate", "an earlier row says nearly the same"
        return None

    def _summary(self, parts: Parts) -> dict[str, Any]:
        summary = parts.summary()
        before = read_report(self._folder)
        source = self._workspace.spec.inputs["data"]
        summary |= {
            "rejected_rows": self._aside.counts.total(),
            "rejected": self._aside.shown(),
            "origin": {
                "kind": "split",
                "from": source.ref,
                "digest": source.digest,
                "by": f"{self._way.by}:{self._way.column}".rstrip(":"),
                "train": self._way.train,
                "heldout": self._way.heldout,
                "seed": self._way.seed,
                "drop_near": self._drop_near,
            },
        }
        if "synthetic" in before:
            summary["synthetic"] = before["synthetic"]
        summary["statistics"] |= {
            "left_out_rows": self._left_out,
            "rejected_by_code": dict(sorted(self._aside.counts.items())),
        }
        self._workspace.emit(
            Note(
                text=f"{summary['train_rows']} rows to train on, {summary['heldout_rows']} held out, "
                f"{summary['rejected_rows']} set aside, {self._left_out} left out."
            )
        )
        return summary

    def _tell(self, fraction: float) -> None:
        if self._workspace.stop_requested():
            raise Interrupted
        self._workspace.emit(Progress(phase="split", fraction=min(0.99, fraction)))
