"""Records out of Parquet and Arrow files, a few hundred rows in memory at a time. Only the columns in use are read.

What stands at a place of the file is told by its row, counted from 1. A file that cannot be decoded stops the whole
import: nothing behind the fault can be told from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from appliance.datasets.class_names import names_in_schema, with_class_names
from appliance.datasets.forms import Schema
from appliance.datasets.rows import Record
from appliance.kernel.errors import BadInput

_BATCH = 256
_ARROW_FILE = b"ARROW1"
_UNDECODABLE = (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError, OverflowError)
"""What pyarrow raises for a file that is not what it says; a false length asks for more memory than there is."""


def read_columnar(
    stream: BinaryIO, *, name: str, schema: Schema, class_names: Mapping[str, Sequence[str]]
) -> Iterator[Record]:
    """Yield the rows of a file. Raises BadInput `dataset.not_columnar`, `dataset.columns` or `dataset.mapping`."""
    try:
        columns, batches = _open_parquet(stream) if name.lower().endswith(".parquet") else _open_arrow(stream)
        listed = list(columns.names)
    except _UNDECODABLE as error:
        raise _damaged(name, error) from error
    shape = schema.require_columns(listed, name=name)
    used = [column for column in listed if column in schema.columns_of(shape)]
    names = names_in_schema(columns.metadata) | dict(class_names)
    return _records(batches, used, frozenset(listed) - set(used), names, name)


def _open_parquet(stream: BinaryIO) -> tuple[pa.Schema, Any]:
    file = pq.ParquetFile(stream, thrift_string_size_limit=16 << 20, thrift_container_size_limit=1 << 20)
    return file.schema_arrow, lambda columns: file.iter_batches(batch_size=_BATCH, columns=columns, use_threads=False)


def _open_arrow(stream: BinaryIO) -> tuple[pa.Schema, Any]:
    start = stream.read(len(_ARROW_FILE))
    stream.seek(0)
    if start == _ARROW_FILE:
        file = pa.ipc.open_file(stream)
        whole = (file.get_batch(place) for place in range(file.num_record_batches))
        return file.schema, lambda columns: _sliced(whole, columns)
    reader = pa.ipc.open_stream(stream)
    return reader.schema, lambda columns: _sliced(reader, columns)


def _sliced(batches: Any, columns: list[str]) -> Iterator[Any]:
    for batch in batches:
        chosen = batch.select(columns)
        chosen.validate(full=True)  # lengths and offsets come from the file; reading a false one ends the process
        for start in range(0, chosen.num_rows, _BATCH):
            yield chosen.slice(start, _BATCH)


def _records(
    batches: Any, used: list[str], unread: frozenset[str], names: Mapping[str, Sequence[str]], name: str
) -> Iterator[Record]:
    row = 0
    try:
        for batch in batches(used):
            for fields in batch.to_pylist():
                row += 1
                yield Record(line=row, fields=with_class_names(fields, names) if names else fields, unread=unread)
    except _UNDECODABLE as error:
        raise _damaged(name, error, after=row) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")


def _damaged(name: str, error: Exception, *, after: int = 0) -> BadInput:
    where = f" after row {after}" if after else ""
    return BadInput(
        "dataset.not_columnar",
        f"{name} cannot be decoded{where}: {_first_line(error)}.",
        hint="It is damaged, cut off, or no Parquet or Arrow file; copy or write it again.",
    )
