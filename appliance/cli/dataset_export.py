"""Writes a data set to a file of whoever asks, as their own user: JSON lines or Parquet, whole or not at all.

What is written can be imported again: a column `split` says the part, and kept columns stand under their own names.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.session import Session
from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import BadInput, Conflict, storage_errors

_BATCH = 1000


def export_rows(session: Session, ref: str, parts: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the parts as they are exported, page by page."""
    for part in parts:
        after = 0
        while True:
            page = session.send(calls.dataset_rows(ref, part, after=after))
            for row in page.rows:
                yield exported(row, part)
            if not page.next:
                break
            after = page.next


def exported(row: dict[str, Any], part: str) -> dict[str, Any]:
    """Return a row with its part and its kept columns beside it; a preference row's conversation becomes `prompt`."""
    content = {name: value for name, value in row.items() if name != "meta"}
    if "chosen" in content:
        content["prompt"] = content.pop("messages")
    taken = content.keys() | {"split"}
    kept = {f"meta_{name}" if name in taken else name: value for name, value in row.get("meta", {}).items()}
    return content | kept | {"split": part}


def write_export(file: Path, rows: Iterator[dict[str, Any]], *, detail: t.DatasetDetail, force: bool) -> int:
    """Write the rows and return how many. Raises BadInput `dataset.export`, Conflict or StorageFailure."""
    suffix = file.suffix.lower()
    if suffix not in (".jsonl", ".parquet"):
        raise BadInput("dataset.export", f"{file.name} is neither .jsonl nor .parquet.", hint="Name it so.")
    if file.exists() and not force:
        raise Conflict("dataset.export_exists", f"{file} is already there.", hint="Give --force to replace it.")
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}.tmp")
    with storage_errors(f"writing {file}"):
        try:
            write = _write_jsonl if suffix == ".jsonl" else _write_parquet
            count = write(temporary, rows, detail)
            temporary.replace(file)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    return count


def _write_jsonl(file: Path, rows: Iterator[dict[str, Any]], _: t.DatasetDetail) -> int:
    count = 0
    with file.open("xb") as stream:
        for row in rows:
            stream.write(canonical_json(row) + b"\n")
            count += 1
        stream.flush()
        os.fsync(stream.fileno())
    return count


def _write_parquet(file: Path, rows: Iterator[dict[str, Any]], detail: t.DatasetDetail) -> int:
    import pyarrow as pa  # a large library, and only for this
    import pyarrow.parquet as pq

    message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    span = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]))
    types = {"messages": message, "spans": span}
    if detail.dataset.form == "preference":
        types["prompt"] = message
    first = next(rows, None)
    columns = sorted(first) if first is not None else []
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        batch = [first, *islice(rows, _BATCH - 1)] if first is not None else []
        while batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
            batch = list(islice(rows, _BATCH))
    return count
