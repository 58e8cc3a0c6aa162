"""Rows of stored data sets: page by page for whoever exports or reads them, and counted against another version.

Compares lines as they are stored, by digest and without the columns that were only kept; what a row says matters to
nobody here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Row

from appliance.api import types as t
from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import BadInput
from appliance.services.context import Context
from appliance.services.datasets import dataset_detail
from appliance.services.records import file_entries, find_dataset, ref_of

_PARTS = ("train", "heldout")
_PAGE_BYTES = 4 << 20
_PAGE_ROWS = 5000
_MOST_ROWS = 4_000_000
"""Beyond this a comparison would take more memory than the daemon should."""


def page(ctx: Context, text: str, *, part: str, after: int, limit: int) -> t.DatasetRows:
    """Return rows of a part from byte `after` on, at most `limit` of them and 4 MiB. Audited with how many left."""
    if part not in _PARTS:
        raise BadInput("dataset.part", f"{part[:40]!r} is no part of a data set.", hint="Give train or heldout.")
    ctx.authorise("dataset.read", text)
    with ctx.appliance.database.read() as connection:
        row = find_dataset(connection, text)
    rows: list[dict[str, Any]] = []
    following = 0
    if (path := _file(ctx, row, part)) is not None:
        rows, following = _read_page(path, after, max(1, min(limit, _PAGE_ROWS)))
    with ctx.appliance.database.write() as connection:
        ctx.record(connection, "dataset.read", ref_of(row), part=part, after=after, rows=len(rows))
    return t.DatasetRows(part=part, rows=tuple(rows), next=following)


def diff(ctx: Context, before: str, after: str) -> t.DatasetDiff:
    """Return what a second version has more, less, and on another side."""
    with ctx.appliance.database.read() as connection:
        rows = [find_dataset(connection, text) for text in (before, after)]
        details = [dataset_detail(connection, row) for row in rows]
    if sum(detail.dataset.train_rows + detail.dataset.heldout_rows for detail in details) > _MOST_ROWS:
        raise BadInput(
            "dataset.too_large_to_compare", f"Versions of more than {_MOST_ROWS} rows together are not compared."
        )
    first, second = ({part: _digests(_file(ctx, row, part)) for part in _PARTS} for row in rows)
    names = [_columns(detail) for detail in details]
    came = {part: second[part] - first[part] for part in _PARTS}
    moved = {part: came[part] & first[other] for part, other in zip(_PARTS, reversed(_PARTS), strict=True)}
    everywhere = second["train"] | second["heldout"]
    return t.DatasetDiff(
        before=details[0],
        after=details[1],
        added={part: len(came[part] - moved[part]) for part in _PARTS},
        removed={part: len(first[part] - everywhere) for part in _PARTS},
        moved={part: len(moved[part]) for part in _PARTS},
        kept={part: len(first[part] & second[part]) for part in _PARTS},
        columns={
            "added": tuple(sorted(names[1] - names[0])),
            "removed": tuple(sorted(names[0] - names[1])),
        },
    )


def _read_page(path: Path, after: int, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return rows from a byte on, and the byte where the next page begins (0 at the end)."""
    rows: list[dict[str, Any]] = []
    with path.open("rb") as stream:
        stream.seek(max(0, after - 1))
        if after and stream.read(1) != b"\n":
            raise BadInput("dataset.part", f"No row begins at {after}.", hint="Go on from `next` of the page before.")
        at = after
        while len(rows) < limit and at - after < _PAGE_BYTES and (line := stream.readline()):
            rows.append(msgspec.json.decode(line, type=dict[str, Any]))
            at += len(line)
        return rows, at if stream.read(1) else 0


def _file(ctx: Context, row: Row[Any], part: str) -> Path | None:
    entry = next((one for one in file_entries(row.files) if one.path == f"{part}.jsonl"), None)
    return ctx.appliance.blobs.path(entry.digest) if entry is not None else None


def _digests(path: Path | None) -> set[bytes]:
    if path is None:
        return set()
    with path.open("rb") as stream:
        return {hashlib.blake2b(_essence(line), digest_size=8).digest() for line in stream}


def _essence(line: bytes) -> bytes:
    """Return what makes two rows the same: all but the columns that were only kept."""
    if b'"meta":{' not in line:
        return line.rstrip(b"\n")
    content = msgspec.json.decode(line, type=dict[str, Any])
    content.pop("meta", None)
    return canonical_json(content)


def _columns(detail: t.DatasetDetail) -> set[str]:
    """Return the parts that the rows of a version have, as its samples show them."""
    found: set[str] = set()
    for sample in detail.samples:
        found |= {part for part in sample if part != "meta"} | {f"meta.{column}" for column in sample.get("meta", {})}
    return found
