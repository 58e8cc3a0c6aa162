from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.datasets import check_task
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, IntegrityFailure
from tests.factories.tiny_llama import make_tiny_llama
from tests.unit.datasets.conftest import Opener, asked, labelled, stored

LONG = "How do I track the card that was sent to me last week"


def check(
    open_job: Opener, files: dict[str, bytes], *, model: dict[str, bytes] | None = None, **parameters: Any
) -> dict[str, Any]:
    inputs = {"data": files} | ({"model": model} if model else {})
    workspace = open_job(JobKind.CHECK_DATASET, inputs, **parameters)
    report = check_task.run(workspace)
    assert json.loads((workspace.output / "check.json").read_text()) == report
    assert LONG not in (workspace.directory / "events.jsonl").read_text()
    return report


def codes(report: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


def test_every_fault_is_found_and_told_by_place(open_job: Opener) -> None:
    train = [
        labelled(LONG, "a"),
        labelled(f"{LONG}?", "a"),
        labelled("same question", "a"),
        labelled("same question", "b"),
        labelled("write to anna@example.org, IBAN GB82 WEST 1234 5698 7654 32", "a"),
        labelled("held out too", "a"),
        labelled("word " * 9000, "b"),
        labelled("same question", "a"),
    ]
    heldout = [labelled("Held  out too", "a"), labelled(f"{LONG}!", "c")]
    report = check(open_job, stored(train, heldout, form="classification"))
    assert report["leakage"]["exact"] == 1
    assert report["leakage"]["near"] == 2
    assert report["leakage"]["examples"][0] == {"part": "train", "line": 6}
    near = report["leakage"]["examples"][1]
    assert (near["line"], near["like_part"], near["like_line"]) == (1, "heldout", 2)
    assert report["exact_duplicates"]["rows"] == 1
    assert report["exact_duplicates"]["examples"] == [{"part": "train", "line": 8}]
    assert [one["line"] for one in report["conflicts"]["examples"]] == [4]
    assert report["personal"]["examples"] == [{"part": "train", "line": 5, "kinds": {"email": 1, "iban": 1}}]
    assert [one["line"] for one in report["outliers"]["examples"]] == [7]
    assert report["labels"][-1] == {"label": "c", "train": 0, "heldout": 1}
    assert set(codes(report)) >= {
        "leakage.exact",
        "leakage.near",
        "labels.conflict",
        "labels.unseen",
        "labels.few",
        "personal",
        "duplicates.exact",
        "length.outliers",
    }
    assert [finding["level"] for finding in report["findings"]] == sorted(
        (finding["level"] for finding in report["findings"]), reverse=True
    )


def test_a_clean_set_has_nothing_to_say_against_it(open_job: Opener) -> None:
    train = [asked(f"What is the {word} of it?", f"It is {i * i}.") for i, word in enumerate(WORDS)]
    report = check(open_job, stored(train, [asked("Who is there?", "Nobody.")], form="chat"))
    assert codes(report) == []
    assert report["train"]["languages"] == {"en": len(train)}
    assert "tokens" not in report["train"]


WORDS = ["length", "colour", "weight", "price", "owner", "history", "temperature", "smell"]


def test_lengths_are_counted_with_a_models_tokenizer(open_job: Opener, tmp_path: Path) -> None:
    tokenizer = (make_tiny_llama(tmp_path / "tiny") / "tokenizer.json").read_bytes()
    rows = [labelled("hello there", "a"), labelled("x" * 200, "b")]
    report = check(open_job, stored(rows), model={"tokenizer.json": tokenizer}, context=50)
    assert report["train"]["tokens"]["max"] >= 50
    assert report["too_long"] == 1
    assert "tokens.too_long" in codes(report)
    with pytest.raises(BadInput) as raised:
        check(open_job, stored(rows), model={"tokenizer.json": b"{}"})
    assert raised.value.code == "dataset.tokenizer"


def test_equal_data_give_equal_reports(open_job: Opener) -> None:
    files = stored([labelled(f"{LONG} {i % 5}", f"l{i % 3}") for i in range(40)], [labelled(LONG, "l0")])
    assert check(open_job, files) == check(open_job, files)


def test_nothing_and_damage_are_refused(open_job: Opener) -> None:
    with pytest.raises(BadInput) as raised:
        check(open_job, stored([]))
    assert raised.value.code == "dataset.no_rows"
    with pytest.raises(IntegrityFailure) as damaged:
        check(open_job, stored([labelled("a", "b")]) | {"train.jsonl": b"secret\n"})
    assert damaged.value.code == "dataset.row_invalid"
    assert "secret" not in damaged.value.message
