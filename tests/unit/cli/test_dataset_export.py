from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from appliance.cli.dataset_export import exported, write_export
from appliance.kernel.errors import BadInput, Conflict
from tests.unit.cli.test_dataset_text import DETAIL

SPAN = {"start": 0, "end": 1, "label": "X"}
ROWS: list[dict[str, Any]] = [{"text": "a", "spans": []}, {"text": "b", "spans": [SPAN]}]


def rows(*content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (exported(row, "train") for row in content)


def test_lines_are_written_whole(tmp_path: Path) -> None:
    assert write_export(tmp_path / "x.jsonl", rows(*ROWS), detail=DETAIL, force=False) == 2
    found = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert found == [row | {"split": "train"} for row in ROWS]
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_columns_have_their_types_even_where_the_first_rows_are_empty(tmp_path: Path) -> None:
    many = [ROWS[0]] * 1500 + [ROWS[1]]
    assert write_export(tmp_path / "x.parquet", rows(*many), detail=DETAIL, force=False) == 1501
    table = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert table[1500] == ROWS[1] | {"split": "train"}
    assert table[0]["spans"] == []
    assert write_export(tmp_path / "none.parquet", rows(), detail=DETAIL, force=False) == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_kept_columns_and_preferences_are_named_as_an_import_knows_them() -> None:
    messages = [{"role": "user", "content": "q"}]
    preference = {"messages": messages, "chosen": "a", "rejected": "b", "meta": {"day": "1", "chosen": "x"}}
    assert exported(preference, "heldout") == {
        "prompt": messages,
        "chosen": "a",
        "rejected": "b",
        "day": "1",
        "meta_chosen": "x",
        "split": "heldout",
    }


def test_what_is_there_is_replaced_only_when_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("mine")
    with pytest.raises(Conflict):
        write_export(tmp_path / "x.jsonl", rows(*ROWS), detail=DETAIL, force=False)
    assert (tmp_path / "x.jsonl").read_text() == "mine"
    write_export(tmp_path / "x.jsonl", rows(*ROWS), detail=DETAIL, force=True)
    with pytest.raises(BadInput):
        write_export(tmp_path / "x.csv", rows(*ROWS), detail=DETAIL, force=True)


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def breaks() -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        raise Conflict("dataset.gone", "It went away.")

    with pytest.raises(Conflict):
        write_export(tmp_path / "x.jsonl", breaks(), detail=DETAIL, force=False)
    assert list(tmp_path.iterdir()) == []
