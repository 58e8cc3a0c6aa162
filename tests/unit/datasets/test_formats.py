from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from appliance.datasets.contents import FIELD_LIMIT
from appliance.datasets.formats import read_records, sniff_delimiter
from appliance.datasets.forms import Schema, Shape
from appliance.datasets.rows import Record, Rejected
from appliance.kernel.errors import BadInput
from appliance.kernel.sources import open_regular


def read(path: Path, data: bytes | None = None, shape: Shape | None = None) -> list[Record | Rejected]:
    if data is not None:
        path.write_bytes(data)
    with open_regular(path) as stream:
        return list(read_records(stream, name=path.name, schema=Schema(shape=shape)))


def good(records: list[Record | Rejected]) -> list[dict[str, Any]]:
    return [dict(record.fields) for record in records if isinstance(record, Record)]


def bad(records: list[Record | Rejected]) -> list[tuple[int, str]]:
    return [(record.line, record.code) for record in records if isinstance(record, Rejected)]


def code_of(path: Path, data: bytes | None = None, shape: Shape | None = None) -> str:
    with pytest.raises(BadInput) as raised:
        read(path, data, shape)
    assert "secret" not in str(raised.value)
    return raised.value.code


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_dialects(tmp_path: Path, delimiter: str, mark: bytes, end: str) -> None:
    rows = [("question", "answer"), ("é, so; what", "a"), ('"quoted ""x"""', "b"), (f'"two{end}lines"', "c")]
    rows = [(f'"{q}"' if "," in q and q[0] != '"' else q, a) for q, a in rows]
    text = end.join(delimiter.join(row) for row in rows)
    records = read(tmp_path / "x.csv", mark + text.encode())
    assert good(records) == [
        {"question": "é, so; what", "answer": "a"},
        {"question": 'quoted "x"', "answer": "b"},
        {"question": f"two{end}lines", "answer": "c"},
    ]
    assert [record.line for record in records] == [2, 3, 4]


def test_sniffing_prefers_what_splits_all_rows() -> None:
    assert sniff_delimiter(["question;answer\n", "a, b, c;d\n", "e;f\n"]) == ";"
    assert sniff_delimiter(["text\n", "alone\n"]) == ","
    assert sniff_delimiter([]) == ","


def test_bad_csv_rows_are_set_aside_one_by_one(tmp_path: Path) -> None:
    data = (
        b'question,answer\ngood,1\nonly one\na,b,c\n"bad"quote,x\n\nlatin \xe9,x\nnul \x00,x\ngood,2\n"never ends,x\n'
    )
    records = read(tmp_path / "x.csv", data)
    assert [fields["answer"] for fields in good(records)] == ["1", "x", "2"]
    assert bad(records) == [
        (3, "row.columns"),
        (4, "row.columns"),
        (5, "row.not_csv"),
        (7, "row.encoding"),
        (10, "row.not_csv"),
    ]
    (encoding,) = [r for r in records if isinstance(r, Rejected) and r.code == "row.encoding"]
    assert encoding.reason == "byte 7: 0xe9 is not UTF-8"


def test_bad_bytes_inside_a_record_of_many_lines_set_the_whole_record_aside(tmp_path: Path) -> None:
    records = read(tmp_path / "x.csv", b'text,other\n"a\n\xff\nb",c\nd,e\n')
    assert bad(records) == [(2, "row.encoding")]
    assert good(records) == [{"text": "d", "other": "e"}]


def test_a_quote_left_open_costs_its_row_and_not_the_file(tmp_path: Path) -> None:
    line = "x" * 99 + ",y\n"
    data = 'text,other\n"open,1\n' + line * (FIELD_LIMIT // 100) + line * 500
    records = read(tmp_path / "x.csv", data.encode())
    assert bad(records) == [(2, "row.not_csv")]
    assert len(good(records)) > 400


@pytest.mark.parametrize(
    ("data", "shape", "code"),
    [
        (b"secret one,secret two!?\n1,2\n", None, "dataset.columns"),
        (b"text,text\n1,2\n", None, "dataset.columns"),
        (b"", None, "dataset.columns"),
        (b"te\xffxt,other\n1,2\n", None, "dataset.encoding"),
        (b'text,"oth\ner\n1,2\n', None, "dataset.columns"),
        (bytes(range(256)) * 4, None, "dataset.not_text"),
        (bytes(byte for byte in range(1, 256)) * 4, None, "dataset.not_text"),
        (b"a,b\n1,2\n", Shape(prompt="a", answer="c"), "dataset.mapping"),
        ("text,b\n1,2\n".encode("utf-16"), None, "dataset.encoding"),
        ("text,b\n1,2\n".encode("utf-16-le") * 9, None, "dataset.not_text"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path: Path, data: bytes, shape: Shape | None, code: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    with pytest.raises(BadInput) as raised:
        read(path, shape=shape)
    assert raised.value.code == code
    assert raised.value.hint
    assert "!?" not in str(raised.value)


def test_jsonl_rows_stand_alone(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"text":"a"}',
        b"secret not json",
        b"[1]",
        b"",
        b'{"text":"\xff"}',
        b'{"a":' * 100_000,
        b'{"text":"\\ud800"}',
        b'{"text":NaN}',
        b'{"text":"b"}',
    ]
    records = read(tmp_path / "x.jsonl", b"\r\n".join(lines))
    assert good(records) == [{"text": "a"}, {"text": "b"}]
    assert bad(records) == [
        (2, "row.not_json"),
        (3, "row.not_object"),
        (5, "row.encoding"),
        (6, "row.not_json"),
        (7, "row.not_json"),
        (8, "row.not_json"),
    ]
    assert not any("secret" in record.reason for record in records if isinstance(record, Rejected))


def test_long_lines_are_taken_up_to_the_bound_and_skipped_beyond(tmp_path: Path) -> None:
    million = json.dumps({"text": "x" * 1_000_000}).encode()
    endless = json.dumps({"text": "x" * (20 << 20)}).encode()
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join([million, endless, b'{"text":"y"}']))
    del endless
    tracemalloc.start()
    try:
        records = read(path)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert [len(fields["text"]) for fields in good(records)] == [1_000_000, 1]
    assert bad(records) == [(2, "row.too_long")]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json", "x.txt"])
def test_ten_gigabytes_of_zeros_are_refused_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    os.truncate(path, 10 << 30)
    began = time.monotonic()
    assert code_of(path) == "dataset.not_text"
    assert time.monotonic() - began < 1


def test_a_line_without_end_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"x" * 100_000)
    os.truncate(path, 10 << 30)
    assert code_of(path) == "dataset.not_text"


def test_json_arrays_are_read_in_pieces(tmp_path: Path) -> None:
    rows = [{"text": f"é {i} " + "x" * (i * 37 % 5000), "n": i} for i in range(2000)]
    for indent in (None, 2):
        assert good(read(tmp_path / "x.json", json.dumps(rows, indent=indent, ensure_ascii=False).encode())) == rows
    records = read(tmp_path / "y.json", b'\xef\xbb\xbf [\n {"text":"a"},\n 12,\n {"text":"b"} ] \n')
    assert good(records) == [{"text": "a"}, {"text": "b"}]
    assert bad(records) == [(3, "row.not_object")]
    assert [record.line for record in records] == [2, 3, 4]
    assert read(tmp_path / "z.json", b"[]") == []


@pytest.mark.parametrize(
    "data",
    [
        b"secret",
        b"[",
        b'[{"text":"secret"}',
        b'[{"text":"secret"},]',
        b'[{"text":"secret"} {"text":"b"}]',
        b'[{"text":"secret"}] x',
        b'[{"text":NaN}]',
        b"[" * 100_000,
        b'[{"text":"secret}]',
        b"[" + b"9" * 10_000 + b"]",
        b"",
    ],
)
def test_json_that_is_not_json(tmp_path: Path, data: bytes) -> None:
    assert code_of(tmp_path / "x.json", data) == "dataset.not_json"


def test_json_in_another_encoding_is_named_by_its_byte(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        read(tmp_path / "x.json", b'[{"text":"caf\xe9"}]')
    assert raised.value.code == "dataset.encoding"
    assert "byte 14" in raised.value.message


def test_objects_in_a_json_file_are_read_as_lines(tmp_path: Path) -> None:
    assert good(read(tmp_path / "x.json", b'{"text":"a"}\n{"text":"b"}\n')) == [{"text": "a"}, {"text": "b"}]


def test_text_is_cut_at_blank_lines(tmp_path: Path) -> None:
    records = read(tmp_path / "x.txt", b"\n\none\r\nmore\r\n\r\n \t\ntwo\n\nbad \xff\nline\n\nlast")
    assert [fields["text"] for fields in good(records)] == ["one\r\nmore", "two", "last"]
    assert [record.line for record in records] == [3, 7, 9, 12]
    assert bad(records) == [(9, "row.encoding")]


def test_a_paragraph_without_end_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 200_000)
    tracemalloc.start()
    try:
        (record,) = read(path)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()
    assert isinstance(record, Record)
    assert len(record.fields["text"]) > FIELD_LIMIT


def test_other_formats_are_unsupported(tmp_path: Path) -> None:
    assert code_of(tmp_path / "x.xlsx", b"PK") == "dataset.unsupported"
    assert code_of(tmp_path / "x.parquet", b"PAR1") == "dataset.not_columnar"
    assert code_of(tmp_path / "x.arrow", b"ARROW1 cut off") == "dataset.not_columnar"
