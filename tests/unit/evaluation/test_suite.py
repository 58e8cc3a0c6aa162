"""Suites: what may stand in one, that it has one stored form, and that each mistake is named."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.evaluation.suite import decode_suite, encode_suite, parse_suite
from appliance.kernel.errors import BadInput

ROW = {"prompt": "Which port?", "answer": "8443"}


def task(**changes: Any) -> dict[str, Any]:
    return {"name": "answers", "type": "exact_match", "rows": [ROW]} | changes


def parse(*tasks: dict[str, Any]) -> Any:
    return parse_suite({"tasks": list(tasks)}, source="suite.yaml")


def test_a_suite_reads_back_from_its_stored_form() -> None:
    suite = parse(
        task(),
        {"name": "held", "type": "f1", "data": "faq@3", "limit": 5},
        {
            "name": "pick",
            "type": "multiple_choice",
            "rows": [{"prompt": "2 + 2 =", "choices": [" 3", " 4"], "gold": 1}],
        },
        {"name": "shape", "type": "json", "schema": {"type": "object"}, "rows": [{"prompt": "JSON, please."}]},
    )
    data = encode_suite(suite)
    assert decode_suite(data) == suite
    assert encode_suite(decode_suite(data)) == data
    assert suite.data == ("faq@3",)
    assert b'"schema"' in data


@pytest.mark.parametrize(
    ("tasks", "code", "named"),
    [
        ([], "suite.empty", "no tasks"),
        ([task(type="bleu")], "suite.invalid", "bleu"),
        ([task(name="Answers!")], "suite.invalid", "name"),
        ([task(temperature=1)], "suite.invalid", "temperature"),
        ([task(), task()], "suite.invalid", "two tasks are called answers"),
        ([task(rows=[])], "suite.data", "neither data nor rows"),
        ([task(data="faq@1")], "suite.data", "both data and rows"),
        ([task(rows=[], data="faq")], "suite.data", "does not name a version"),
        ([task(rows=[{"prompt": "Why?"}])], "suite.row", "row 1: it needs prompt (or messages) and answer"),
        ([task(type="perplexity", rows=[{"prompt": "x"}])], "suite.row", "it needs text"),
        ([task(type="multiple_choice", rows=[{"prompt": "x", "choices": ["a", "b"], "gold": 2}])], "suite.row", "gold"),
        ([task(type="regression", rows=[{"prompt": "x"}])], "suite.row", "must_contain"),
        ([task(type="regression", rows=[{"prompt": "x", "matches": "(a"}])], "suite.row", "no regular expression"),
        ([task(type="classification", rows=[{"text": "x"}])], "suite.row", "text and label"),
        (
            [task(type="classification", labels=["a"], rows=[{"text": "x", "label": "b"}])],
            "suite.row",
            "not among the task's labels",
        ),
        ([task(type="json", schema={"type": "object", "if": {}}, rows=[{"prompt": "x"}])], "suite.schema", "'if'"),
    ],
)
def test_each_mistake_is_named(tasks: list[dict[str, Any]], code: str, named: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse(*tasks)
    assert refusal.value.code == code
    assert "suite.yaml" in refusal.value.message
    assert named in refusal.value.message
