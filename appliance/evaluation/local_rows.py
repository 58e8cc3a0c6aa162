"""Rows of a local JSON, JSON Lines, CSV or Parquet file as mappings, within bounds, for tasks that are imported."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Final

from appliance.evaluation.suite import ROW_LIMIT
from appliance.kernel.errors import BadInput, storage_errors

_SIZE_LIMIT: Final = 256 << 20


def read_local_rows(file: Path) -> list[dict[str, Any]]:
    """Read every row. Raises BadInput (`suite.rows`) naming the file and what is wrong in it."""
    with storage_errors(f"reading {file}"):
        size = file.stat().st_size
        if size > _SIZE_LIMIT:
            raise _wrong(file, f"it has {size} bytes, more than {_SIZE_LIMIT}")
        data = b"" if file.suffix == ".parquet" else file.read_bytes()
    rows = _parquet(file) if file.suffix == ".parquet" else _text_rows(file, data)
    if not rows:
        raise _wrong(file, "it has no rows")
    if len(rows) > ROW_LIMIT:
        raise _wrong(file, f"it has {len(rows)} rows, more than {ROW_LIMIT}")
    return rows


def _text_rows(file: Path, data: bytes) -> list[dict[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(file, f"byte {error.start} is not UTF-8") from error
    if file.suffix == ".csv":
        return _csv(file, text)
    if file.suffix == ".jsonl" or not text.lstrip().startswith("["):
        return [_object(file, line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(file, f"it is no JSON: {error}") from error
    if not all(isinstance(row, dict) for row in found):
        raise _wrong(file, "it is no list of objects")
    return list(found)


def _csv(file: Path, text: str) -> list[dict[str, Any]]:
    try:
        rows = [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    except csv.Error as error:
        raise _wrong(file, f"it is no CSV: {error}") from error
    ragged = next((number for number, row in enumerate(rows, 2) if None in row or None in row.values()), None)
    if ragged is not None:
        raise _wrong(file, f"record {ragged} has another number of fields than the first line")
    return rows


def _object(file: Path, line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _wrong(file, f"line {number} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise _wrong(file, f"line {number} is no object")
    return row


def _parquet(file: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            if opened.metadata.num_rows > ROW_LIMIT:
                raise _wrong(file, f"it has {opened.metadata.num_rows} rows, more than {ROW_LIMIT}")
            rows: list[dict[str, Any]] = opened.read().to_pylist()
            return rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _wrong(file, f"it is no Parquet file: {str(error)[:200]}") from error


def _wrong(file: Path, why: str) -> BadInput:
    return BadInput("suite.rows", f"{file.name}: {why}.")
