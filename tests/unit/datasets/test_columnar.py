from __future__ import annotations

import contextlib
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from appliance.datasets.formats import read_records
from appliance.datasets.forms import Schema
from appliance.datasets.rows import Record
from appliance.kernel.errors import BadInput
from appliance.kernel.sources import open_regular


def read(path: Path, schema: Schema | None = None) -> list[Record]:
    with open_regular(path) as stream:
        found = list(read_records(stream, name=path.name, schema=schema or Schema()))
    assert all(isinstance(record, Record) for record in found)
    return [record for record in found if isinstance(record, Record)]


def write(path: Path, table: Any) -> Path:
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path, row_group_size=100)
        case ".feather":
            with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
                writer.write_table(table, max_chunksize=64)
        case _:
            with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.feather"])
def test_rows_come_out_in_order_with_the_columns_in_use(tmp_path: Path, name: str) -> None:
    table = pa.table({"text": [f"é {i}" for i in range(1000)], "label": ["a", "b"] * 500, "picture": [b"x"] * 1000})
    records = read(write(tmp_path / name, table))
    assert [record.line for record in records] == list(range(1, 1001))
    assert records[999].fields == {"text": "é 999", "label": "b"}
    assert records[0].unread == {"picture"}


def test_numbers_get_the_names_that_the_file_gives_them(tmp_path: Path) -> None:
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "text": {"dtype": "string"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, 7]}).replace_schema_metadata(metadata)
    records = read(write(tmp_path / "x.parquet", table))
    assert [record.fields["label"] for record in records] == ["yes", "no", 7]
    tags = {"ner_tags": {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    metadata = {"huggingface": json.dumps({"info": {"features": tags}})}
    table = pa.table({"tokens": [["a", "b"]], "ner_tags": [[1, 0]]}).replace_schema_metadata(metadata)
    assert read(write(tmp_path / "y.arrow", table))[0].fields["ner_tags"] == ["B-X", "O"]


@pytest.mark.parametrize("document", [b"", b"secret", b"[1]", b'{"info": {"features": [1]}}', b'{"info": 3}'])
def test_other_metadata_names_nothing(tmp_path: Path, document: bytes) -> None:
    table = pa.table({"text": ["a"], "label": [1]}).replace_schema_metadata({"huggingface": document})
    assert read(write(tmp_path / "x.parquet", table))[0].fields["label"] == 1


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.feather"])
def test_damaged_files_are_one_clear_error(tmp_path: Path, name: str) -> None:
    whole = write(tmp_path / name, pa.table({"text": [f"secret {i} " * 20 for i in range(500)]})).read_bytes()
    for length in (0, 3, 100, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(BadInput) as raised:
            read(tmp_path / name)
        assert raised.value.code == "dataset.not_columnar"
        assert "secret" not in raised.value.message
        assert "\n" not in raised.value.message


def test_columns_are_checked_like_those_of_a_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", pa.table({"body": ["a"]}))
    with pytest.raises(BadInput) as raised:
        read(path)
    assert raised.value.code == "dataset.columns"
    with pytest.raises(BadInput) as raised:
        read(path, Schema(keep=("day",)))
    assert raised.value.code == "dataset.columns"


def test_a_large_file_is_read_in_little_memory(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{i} " + "x" * 2000 for i in range(20_000)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1000)
    del table
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    count = most = 0
    try:
        with open_regular(tmp_path / "x.parquet") as stream:
            for count, _ in enumerate(read_records(stream, name="x.parquet"), start=1):
                most = max(most, pa.total_allocated_bytes() - before) if count % 500 == 0 else most
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert most < 24 << 20


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.feather"])
def test_flipped_bytes_are_told_and_never_end_the_process(tmp_path: Path, name: str) -> None:
    table = pa.table({"text": [f"é {i}" for i in range(40)], "label": ["a", "b"] * 20})
    whole = write(tmp_path / name, table).read_bytes()
    chance = random.Random(7)
    for _ in range(250):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / name).write_bytes(bytes(damaged))
        with contextlib.suppress(BadInput):
            read(tmp_path / name)
