"""The job that brings a data set in: read, set bad rows aside, place each row, write two parts and a report.

Equal files, parameters and seeds give equal bytes. Parameters: `source` (absolute path), `name`, `mapping` (prompt
and answer, or text, to columns), `heldout_percent`. Rows travel through a scratch file, not through memory.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from appliance.datasets.formats import read_records
from appliance.datasets.prepare import Fate, Sides, Statistics
from appliance.datasets.rows import (
    Record,
    Rejected,
    Row,
    Shape,
    name_columns,
    shape_from_mapping,
    to_row,
    unused_fields,
)
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import fsync_directory
from appliance.kernel.errors import BadInput, Conflict, StorageFailure, storage_errors
from appliance.kernel.events import Note, Progress
from appliance.kernel.paths import StatePaths
from appliance.kernel.sources import FileIdentity, identity_of, open_regular, resolve_source

_REJECTED_KEPT = 1000
_REJECTED_SHOWN = 20
_SAMPLES = 5
_SAMPLE_CHARACTERS = 400
_MARGIN = 64 << 20
_CHECK_EVERY = 256
_FIELDS_FROM = 1000


@dataclass(slots=True)
class _Aside:
    """Rows that were set aside: the first thousand in full, all of them counted by code."""

    first: list[Rejected] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, rejected: Rejected) -> None:
        self.counts[rejected.code] += 1
        if len(self.first) < _REJECTED_KEPT:
            self.first.append(rejected)


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What the first pass found."""

    sides: Sides
    form: str = ""
    lines: list[int] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)
    aside: _Aside = field(default_factory=_Aside)


def run(workspace: Workspace) -> dict[str, Any]:
    """Write train.jsonl, heldout.jsonl and report.json into `workspace.output`; return the summary.

    Raises BadInput (`dataset.no_rows` and what `read_records` raises), Conflict `dataset.source_changed`,
    StorageFailure and Interrupted; a restarted job begins again.
    """
    parameters = workspace.spec.parameters
    source = resolve_source(parameters.get("source"), state=StatePaths(workspace.directory.parent.parent))
    shape = shape_from_mapping(parameters.get("mapping"))
    sides = Sides(seed=workspace.spec.seed, heldout_percent=_percent(parameters.get("heldout_percent", 10)))
    with open_regular(source) as stream, storage_errors("importing a data set"):
        _require_space(identity_of(stream).size, workspace.directory)
        for folder in (workspace.output, workspace.scratch):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        scratch = workspace.scratch / "rows.jsonl"
        reading = _read(workspace, stream, source.name, shape, sides, scratch)
        summary = _write(workspace, reading, scratch, source.name)
        scratch.unlink()
    workspace.emit(Progress(phase="write", fraction=1.0))
    return summary


def _read(
    workspace: Workspace, stream: BinaryIO, name: str, shape: Shape | None, sides: Sides, scratch: Path
) -> _Reading:
    reading = _Reading(sides=sides)
    before = identity_of(stream)
    with scratch.open("xb") as kept:
        for count, record in enumerate(read_records(stream, name=name, shape=shape)):
            if count % _CHECK_EVERY == 0:
                _stop_if_asked(workspace)
                _require_same(identity_of(stream), before, name)
                workspace.emit(Progress(phase="read", fraction=0.8 * stream.tell() / max(1, before.size)))
            if isinstance(record, Record) and count < _FIELDS_FROM:
                reading.unused |= unused_fields(record, shape)
            row = record if isinstance(record, Rejected) else to_row(record, shape)
            if isinstance(row, Row):
                reading.form = reading.form or row.form
                if row.form != reading.form:
                    row = Rejected(line=row.line, code="row.form", reason=f"it is no {reading.form} row")
            if isinstance(row, Rejected):
                reading.aside.add(row)
            elif (data := sides.add(row)) is not None:
                kept.write(data + b"\n")
                reading.lines.append(row.line)
    _require_same(identity_of(stream), before, name)
    if not reading.lines:
        raise _no_rows(name, reading.aside)
    return reading


def _write(workspace: Workspace, reading: _Reading, scratch: Path, name: str) -> dict[str, Any]:
    statistics = {Fate.TRAIN: Statistics(), Fate.HELDOUT: Statistics()}
    samples: list[dict[str, Any]] = []
    leaked = 0
    with ExitStack() as stack:
        kept = stack.enter_context(scratch.open("rb"))
        parts = {fate: stack.enter_context((workspace.output / f"{fate}.jsonl").open("xb")) for fate in statistics}
        for count, (data, line, fate) in enumerate(_with_fates(kept, reading)):
            if count % _CHECK_EVERY == 0:
                _stop_if_asked(workspace)
                workspace.emit(Progress(phase="write", fraction=0.8 + 0.19 * count / len(reading.lines)))
            if fate is Fate.LEAK:
                leaked += 1
                reading.aside.add(Rejected(line=line, code="row.leak", reason="a held-out row asks the same"))
                continue
            content = msgspec.json.decode(data)
            statistics[fate].add(content)
            parts[fate].write(data)
            if len(samples) < _SAMPLES:
                samples.append(_shortened(content))
        for part in parts.values():
            part.flush()
            os.fsync(part.fileno())
    if not statistics[Fate.TRAIN].rows:
        raise BadInput(
            "dataset.no_train_rows",
            f"{name} leaves no row to train on: {statistics[Fate.HELDOUT].rows} held out, {leaked} set aside.",
            hint="Check its split column, or lower heldout_percent.",
        )
    return _report(workspace, reading, statistics, samples, leaked)


def _report(
    workspace: Workspace,
    reading: _Reading,
    statistics: dict[Fate, Statistics],
    samples: list[dict[str, Any]],
    leaked: int,
) -> dict[str, Any]:
    aside = sorted(reading.aside.first, key=lambda rejected: rejected.line)
    rejected: list[dict[str, Any]] = msgspec.to_builtins(aside)
    summary: dict[str, Any] = {
        "form": reading.form,
        "train_rows": statistics[Fate.TRAIN].rows,
        "heldout_rows": statistics[Fate.HELDOUT].rows,
        "rejected_rows": reading.aside.counts.total(),
        "duplicate_rows": reading.sides.duplicates,
        "statistics": {
            "form": reading.form,
            "rows": sum(part.rows for part in statistics.values()),
            "leaked_rows": leaked,
            "unused_fields": name_columns(sorted(reading.unused)),
            "rejected_by_code": dict(sorted(reading.aside.counts.items())),
            **{fate.value: part.to_dict() for fate, part in statistics.items()},
        },
        "samples": samples,
    }
    report = workspace.output / "report.json"
    with report.open("xb") as stream:
        stream.write(canonical_json(summary | {"rejected": rejected}) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    fsync_directory(workspace.output)
    workspace.emit(
        Note(
            text=f"{summary['train_rows']} rows to train on, {summary['heldout_rows']} held out, "
            f"{summary['duplicate_rows']} duplicates, {summary['rejected_rows']} set aside."
        )
    )
    return summary | {"rejected": rejected[:_REJECTED_SHOWN]}


def _with_fates(kept: BinaryIO, reading: _Reading) -> Iterator[tuple[bytes, int, Fate]]:
    return zip(kept, reading.lines, reading.sides.fates(), strict=True)


def _shortened(content: dict[str, Any]) -> dict[str, Any]:
    """Return a sample whose texts are cut for display."""
    if "text" in content:
        return {"text": _cut(content["text"])}
    return {"messages": [message | {"content": _cut(message["content"])} for message in content["messages"]]}


def _cut(text: str) -> str:
    return text if len(text) <= _SAMPLE_CHARACTERS else text[: _SAMPLE_CHARACTERS - 1] + "…"


def _percent(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 90:
        raise BadInput("dataset.heldout_percent", "heldout_percent is a whole number from 0 to 90.")
    return value


def _require_space(size: int, directory: Path) -> None:
    needed, free = 3 * size + _MARGIN, shutil.disk_usage(directory).free
    if needed > free:
        raise StorageFailure(
            "storage.full",
            f"The import needs {needed} bytes and the disk has {free} free; nothing was written.",
            hint="Free some space and import it again.",
        )


def _require_same(now: FileIdentity, before: FileIdentity, name: str) -> None:
    if now != before:
        raise Conflict(
            "dataset.source_changed",
            f"{name} changed while it was read.",
            hint="Wait until nothing writes to it, then import it again.",
        )


def _stop_if_asked(workspace: Workspace) -> None:
    if workspace.stop_requested():
        raise Interrupted


def _no_rows(name: str, aside: _Aside) -> BadInput:
    if not aside.first:
        return BadInput("dataset.no_rows", f"{name} has no rows.", hint="Is it the right file?")
    code, count = aside.counts.most_common(1)[0]
    example = next(rejected for rejected in aside.first if rejected.code == code)
    return BadInput(
        "dataset.no_rows",
        f"None of the {aside.counts.total()} rows of {name} can be used; {count} of them because of {code} "
        f"(line {example.line}: {example.reason}).",
        hint="Correct the file, or map its columns.",
    )
