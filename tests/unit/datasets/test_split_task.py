from __future__ import annotations

from typing import Any

import pytest

from appliance.datasets import split_task
from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput
from tests.unit.datasets.conftest import Opener, asked, labelled, stored, written

ROWS = [labelled(f"question number {i} about topic {i % 7}", f"l{i % 2}", day=f"2026-01-{i + 1:02}") for i in range(20)]


def split(open_job: Opener, files: dict[str, bytes], **parameters: Any) -> tuple[Workspace, dict[str, Any]]:
    chosen: dict[str, Any] = {"by": "hash", "train": 80, "heldout": 20, "drop_near": 0.0, "name": "x"} | parameters
    workspace = open_job(JobKind.SPLIT_DATASET, {"data": files}, **chosen)
    return workspace, split_task.run(workspace)


def test_the_same_rows_get_other_sides(open_job: Opener) -> None:
    workspace, summary = split(open_job, stored(ROWS[:10], ROWS[10:]), by="time:day", train=75, heldout=25)
    assert written(workspace, "train") == ROWS[:15]
    assert written(workspace, "heldout") == ROWS[15:]
    assert (summary["train_rows"], summary["heldout_rows"], summary["form"]) == (15, 5, "classification")
    assert summary["origin"] == {
        "kind": "split",
        "from": "data@1",
        "digest": "data",
        "by": "time:day",
        "train": 75,
        "heldout": 25,
        "seed": 0,
        "drop_near": 0.0,
    }
    assert summary["labels"][0]["train"] + summary["labels"][0]["heldout"] == 10


def test_equal_choices_give_equal_bytes(open_job: Opener) -> None:
    results = []
    for seed in (1, 1, 2):
        workspace, _ = split(open_job, stored(ROWS), by="stratified", seed=seed)
        results.append({path.name: path.read_bytes() for path in workspace.output.iterdir()})
    assert results[0] == results[1]
    assert results[0]["train.jsonl"] != results[2]["train.jsonl"]
    assert sorted(results[0]) == ["heldout.jsonl", "rejected.jsonl", "report.json", "train.jsonl"]


def test_a_training_row_that_asks_what_is_held_out_is_set_aside(open_job: Opener) -> None:
    rows = [asked("same", "a") | {"meta": {"g": "one"}}, asked("Same ", "b") | {"meta": {"g": "two"}}]
    others = [asked(f"q{i}", "a") | {"meta": {"g": f"g{i}"}} for i in range(8)]
    for seed in range(20):
        workspace, summary = split(open_job, stored(rows + others), by="group:g", train=50, heldout=50, seed=seed)
        sides = {row["meta"]["g"] for row in written(workspace, "heldout")} & {"one", "two"}
        assert summary["rejected_rows"] == (1 if len(sides) == 1 else 0)
        if summary["rejected_rows"]:
            assert summary["rejected"][0]["code"] == "row.leak"
            break
    else:
        pytest.fail("no seed put the two questions on different sides")


def test_what_is_nearly_the_same_goes_where_that_is_asked(open_job: Opener) -> None:
    long = "How do I track the card that was sent to me last week"
    train = [
        labelled(long, "a"),
        labelled(f"{long}?", "a"),
        labelled("quite another question", "b"),
        labelled("x", "a"),
    ]
    _, kept = split(open_job, stored(train, [labelled(f"{long}!!", "b")]), heldout=1, train=99)
    assert kept["rejected_rows"] == 0
    _, summary = split(open_job, stored(train), heldout=1, train=99, drop_near=0.85)
    assert summary["statistics"]["rejected_by_code"] == {"row.near_duplicate": 1}
    assert summary["rejected"][0] == {
        "line": 2,
        "code": "row.near_duplicate",
        "reason": "an earlier row says nearly the same",
        "file": "train.jsonl",
    }


def test_rows_without_a_value_are_set_aside_by_place(open_job: Opener) -> None:
    _, summary = split(open_job, stored([*ROWS, labelled("no day", "l1")]), by="time:day")
    assert summary["statistics"]["rejected_by_code"] == {"row.split_column": 1}
    with pytest.raises(BadInput, match="--keep"):
        split(open_job, stored(ROWS), by="group:nobody_kept_it")


def test_what_a_model_wrote_stays_marked(open_job: Opener) -> None:
    mark = {"model": "m@1", "from": "x@1"}
    _, summary = split(open_job, stored(ROWS, synthetic=mark))
    assert summary["synthetic"] == mark


def test_a_stop_is_heeded(open_job: Opener) -> None:
    class Stopped(Workspace):
        def stop_requested(self) -> bool:
            return True

    workspace = open_job(JobKind.SPLIT_DATASET, {"data": stored(ROWS)}, by="hash", train=80, heldout=20)
    stopped = Stopped(workspace.directory)
    with pytest.raises(Interrupted):
        split_task.run(stopped)
    stopped.close()
