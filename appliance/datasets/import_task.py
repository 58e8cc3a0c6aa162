"""The job that brings a data set in: read, set bad rows aside, place each row, write two parts and a report.

Equal files, parameters and seeds give equal bytes. Parameters: `source` and `more` (absolute paths), `name`, `mapping`,
`form`, `labels`, `keep`, `heldout_percent`, `redact`. Rows travel through a scratch file, not through memory.
"""

from __future__ import annotations

import os
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from appliance.datasets.aside import REJECTED, Aside
from appliance.datasets.formats import COLUMNAR, read_records
from appliance.datasets.forms import Form, Schema, name_columns, rivals_of, schema_from
from appliance.datasets.layouts import Source, SourceFile, find_source
from appliance.datasets.parts import Parts, write_report
from appliance.datasets.prepare import Fate, Sides
from appliance.datasets.redaction import redacted_content
from appliance.datasets.rows import Record, Rejected, Row, to_row, unused_fields
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput, Conflict, StorageFailure, storage_errors
from appliance.kernel.events import Note, Progress
from appliance.kernel.paths import StatePaths
from appliance.kernel.sources import FileIdentity, identity_of, open_regular

_MARGIN = 64 << 20
_CHECK_EVERY = 256
_FIELDS_FROM = 1000
_PACKED = 5
"""How much larger than a compressed columnar file its rows may be expected to be."""


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What the first pass found; `lines` and `files` (by number) are the place of each kept row."""

    sides: Sides
    aside: Aside
    form: Form | None = None
    lines: array[int] = field(default_factory=lambda: array("L"))
    files: array[int] = field(default_factory=lambda: array("L"))
    unused: set[str] = field(default_factory=set)
    redacted: Counter[str] = field(default_factory=Counter)
    chosen: set[str] = field(default_factory=set)
    """which of several columns that could be meant was taken"""


def run(workspace: Workspace) -> dict[str, Any]:
    """Write train.jsonl, heldout.jsonl, rejected.jsonl and report.json into `workspace.output`; return the summary.

    Raises BadInput (`dataset.no_rows` and what `read_records` raises), Conflict `dataset.source_changed`,
    StorageFailure and Interrupted; a restarted job begins again.
    """
    given = workspace.spec.parameters
    schema = schema_from(
        given.get("mapping"), form=given.get("form", ""), labels=given.get("labels", ()), keep=given.get("keep", ())
    )
    sides = Sides(seed=workspace.spec.seed, heldout_percent=_percent(given.get("heldout_percent", 10)))
    state = StatePaths(workspace.directory.parent.parent)
    source = find_source(given.get("source"), given.get("more", ()), state=state)
    with storage_errors("importing a data set"):
        _require_space(source, workspace.directory)
        for folder in (workspace.output, workspace.scratch):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        scratch = workspace.scratch / "rows.jsonl"
        with (workspace.output / REJECTED).open("xb") as stream:
            reading = _Reading(sides=sides, aside=Aside(stream=stream))
            _read(workspace, source, schema, reading, scratch, redact=given.get("redact", False) is True)
            summary = _write(workspace, reading, scratch, source)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.unlink()
        summary = write_report(workspace.output, summary)
    workspace.emit(Progress(phase="write", fraction=1.0))
    return summary


def _read(
    workspace: Workspace, source: Source, schema: Schema, reading: _Reading, scratch: Path, *, redact: bool
) -> None:
    several = len(source.files) > 1
    total = max(1, sum(one.path.stat().st_size for one in source.files))
    behind = 0
    with scratch.open("xb") as kept:
        for number, one in enumerate(source.files):
            with open_regular(one.path) as stream:
                before = identity_of(stream)
                records = read_records(stream, name=one.name, schema=schema, class_names=source.class_names)
                for count, record in enumerate(records):
                    if count % _CHECK_EVERY == 0:
                        _stop_if_asked(workspace)
                        _require_same(identity_of(stream), before, one.name)
                        done = min(behind + stream.tell(), total) / total
                        workspace.emit(Progress(phase="read", fraction=0.7 * done))
                    if isinstance(record, Record) and count < _FIELDS_FROM:
                        reading.unused |= unused_fields(record, schema)
                        reading.chosen |= _choices_in(record, schema)
                    _take(reading, record, schema, one, number, kept, several=several, redact=redact)
                _require_same(identity_of(stream), before, one.name)
            behind += before.size
    if (undecodable := reading.aside.counts["row.encoding"]) > len(reading.lines):
        first = reading.aside.examples["row.encoding"]
        raise BadInput(
            "dataset.encoding",
            f"{source.name} is not UTF-8: {undecodable} rows cannot be read and {len(reading.lines)} can "
            f"(line {first.line}, {first.reason}).",
            hint="It is probably Latin-1 or Windows-1252: save it as UTF-8 and import it again.",
        )
    if not reading.lines:
        raise _no_rows(source.name, reading.aside)
    for told in sorted(reading.chosen):
        workspace.emit(Note(text=told))


def _choices_in(record: Record, schema: Schema) -> set[str]:
    """Say which column was taken where nobody said it and several could be meant."""
    shape = schema.shape_of(record.fields) if schema.shape is None else None
    if shape is None:
        return set()
    told = set()
    for part, taken, others in rivals_of(frozenset(record.fields) | record.unread, shape):
        other = {"text": shape.text, "label": shape.label} | {part: others[0]}
        words = " ".join(f"--map {name}={column}" for name, column in other.items())
        told.add(f"{part} is read from the column {taken}; {', '.join(others)} could be meant too: {words}.")
    return told


def _take(
    reading: _Reading,
    record: Record | Rejected,
    schema: Schema,
    source: SourceFile,
    number: int,
    kept: BinaryIO,
    *,
    several: bool,
    redact: bool,
) -> None:
    """Place one record: aside, among the duplicates, or into the scratch file."""
    row = record if isinstance(record, Rejected) else to_row(record, schema)
    if isinstance(row, Row):
        reading.form = reading.form or row.form
        if redact and reading.form is Form.TAGS:
            raise BadInput(
                "dataset.redact_tags",
                "Tagged text cannot be redacted: its spans would no longer be where they are said to be.",
                hint="Import it without --redact.",
            )
        if row.form != reading.form:
            row = Rejected(line=row.line, code="row.form", reason=f"it is no {reading.form} row")
    if isinstance(row, Rejected):
        reading.aside.add(msgspec.structs.replace(row, file=source.name) if several else row)
        return
    content = row.content
    if redact:
        content, found = redacted_content(content)
        reading.redacted += found
    row = Row(line=row.line, form=row.form, content=content, split=row.split or source.side)
    if (data := reading.sides.add(row)) is not None:
        kept.write(data + b"\n")
        reading.lines.append(row.line)
        reading.files.append(number)


def _write(workspace: Workspace, reading: _Reading, scratch: Path, source: Source) -> dict[str, Any]:
    leaked = 0
    names = [one.name for one in source.files] if len(source.files) > 1 else [""]
    with scratch.open("rb") as kept, Parts(workspace.output, reading.form or Form.TEXT) as parts:
        for count, (data, line, file, fate) in enumerate(_with_fates(kept, reading)):
            if count % _CHECK_EVERY == 0:
                _stop_if_asked(workspace)
                workspace.emit(Progress(phase="write", fraction=0.7 + 0.29 * count / len(reading.lines)))
            if fate is Fate.LEAK:
                leaked += 1
                reading.aside.add(
                    Rejected(line=line, code="row.leak", reason="a held-out row asks the same", file=names[file])
                )
                continue
            parts.add(fate.value, data, msgspec.json.decode(data))
        parts.flush()
    heldout = parts.figures[Fate.HELDOUT.value].rows
    parts.require_usable(name=source.name, why=f"{heldout} held out, {leaked} set aside")
    summary = parts.summary()
    summary |= {
        "rejected_rows": reading.aside.counts.total(),
        "duplicate_rows": reading.sides.duplicates,
        "rejected": reading.aside.shown(),
        "redacted": dict(sorted(reading.redacted.items())),
    }
    summary["statistics"] |= {
        "leaked_rows": leaked,
        "unused_fields": name_columns(sorted(reading.unused)),
        "rejected_by_code": dict(sorted(reading.aside.counts.items())),
    }
    workspace.emit(
        Note(
            text=f"{summary['train_rows']} rows to train on, {summary['heldout_rows']} held out, "
            f"{summary['duplicate_rows']} duplicates, {summary['rejected_rows']} set aside."
        )
    )
    if parts.form is Form.CLASSIFICATION:
        workspace.emit(Note(text=_told_of_labels(parts.figures[Fate.TRAIN.value].labels)))
    return summary


def _told_of_labels(labels: Counter[str]) -> str:
    """Say how many labels the training rows have, and how many of them one cannot learn."""
    single = sum(rows == 1 for rows in labels.values())
    which = f"{single:,} of them {'has' if single == 1 else 'have'}" if single else "none of them has"
    told = f"{len(labels):,} labels; {which} a single training row."
    swapped = " Are text and label swapped? --map text=COLUMN --map label=COLUMN says which is which."
    return told + (swapped if 2 * single > labels.total() else "")


def _with_fates(kept: BinaryIO, reading: _Reading) -> Iterator[tuple[bytes, int, int, Fate]]:
    return zip(kept, reading.lines, reading.files, reading.sides.fates(), strict=True)


def _percent(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 90:
        raise BadInput("dataset.heldout_percent", "heldout_percent is a whole number from 0 to 90.")
    return value


def _require_space(source: Source, directory: Path) -> None:
    needed, free = _MARGIN, shutil.disk_usage(directory).free
    for one in source.files:
        grows = _PACKED if one.path.suffix.lower() in COLUMNAR else 1
        needed += 3 * grows * one.path.stat().st_size
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


def _no_rows(name: str, aside: Aside) -> BadInput:
    if not aside.first:
        return BadInput("dataset.no_rows", f"{name} has no rows.", hint="Is it the right file?")
    code, count = aside.counts.most_common(1)[0]
    example = aside.examples[code]
    return BadInput(
        "dataset.no_rows",
        f"None of the {aside.counts.total()} rows of {name} can be used; {count} of them because of {code} "
        f"(line {example.line}: {example.reason}).",
        hint="Correct the labels that were declared, or map label to the right column."
        if code == "row.label"
        else "Correct the file, or map its columns.",
    )
