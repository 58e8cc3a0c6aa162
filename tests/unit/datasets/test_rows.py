from __future__ import annotations

from typing import Any

import pytest

from appliance.datasets.contents import FIELD_LIMIT
from appliance.datasets.forms import Schema, Shape, name_columns, shape_from_mapping
from appliance.datasets.rows import Record, Rejected, Row, characters_of, prompt_of, to_row
from appliance.kernel.errors import BadInput


def chat(prompt: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def row(fields: dict[str, Any], shape: Shape | None = None) -> Row:
    made = to_row(Record(line=1, fields=fields), Schema(shape=shape))
    assert isinstance(made, Row)
    return made


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({"question": "q", "answer": "a"}, chat("q", "a")),
        ({"prompt": "q", "completion": "a"}, chat("q", "a")),
        ({"prompt": "q", "answer": "a"}, chat("q", "a")),
        ({"instruction": "q", "input": "", "output": "a"}, chat("q", "a")),
        ({"instruction": "q", "input": "i", "output": "a"}, chat("q\n\ni", "a")),
        ({"text": "t\r\nu", "other": 1}, {"text": "t\nu"}),
        ({"question": "q", "answer": 7}, chat("q", "7")),
        (chat("q", "a") | {"id": 3}, chat("q", "a")),
    ],
)
def test_known_shapes_become_canonical_rows(fields: dict[str, Any], content: dict[str, Any]) -> None:
    assert row(fields).content == content


def test_a_mapping_names_columns() -> None:
    shape = shape_from_mapping({"prompt": "body", "answer": "label"})
    assert row({"body": "b", "label": "l", "text": "t"}, shape).content == chat("b", "l")
    assert row({"body": "b"}, shape_from_mapping({"text": "body"})).content == {"text": "b"}
    assert shape_from_mapping({}) is None
    assert shape_from_mapping(None) is None


@pytest.mark.parametrize(
    "mapping", [{"prompt": "a"}, {"text": "a", "prompt": "b"}, {"x": "y"}, {"text": 3}, [1], "text"]
)
def test_a_mapping_that_makes_no_row_is_refused(mapping: object) -> None:
    with pytest.raises(BadInput) as raised:
        shape_from_mapping(mapping)
    assert raised.value.code == "dataset.mapping"


SYSTEM = {"role": "system", "content": "s"}
USER = {"role": "user", "content": "u"}
ASSISTANT = {"role": "assistant", "content": "a"}


def test_conversations_of_several_turns_are_kept() -> None:
    content = row({"messages": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]}).content
    assert content == {"messages": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]}
    assert prompt_of(content) == "u\nu"
    assert characters_of(content) == 5


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"other": "secret"}, "row.unknown_fields"),
        ({"question": "secret", "answer": ""}, "row.empty"),
        ({"question": " \n", "answer": "secret"}, "row.empty"),
        ({"question": "secret", "answer": None}, "row.missing_field"),
        ({"question": "secret", "answer": 1.5}, "row.not_text"),
        ({"question": "secret", "answer": True}, "row.not_text"),
        ({"text": {"a": "secret"}}, "row.not_text"),
        ({"text": "secret\0"}, "row.nul"),
        ({"text": "secret\ud800"}, "row.encoding"),
        ({"text": "x" * (FIELD_LIMIT + 1)}, "row.too_long"),
        ({"text": "secret", "split": "elsewhere secret"}, "row.split"),
        ({"messages": "secret"}, "row.messages"),
        ({"messages": []}, "row.messages"),
        ({"messages": ["secret"]}, "row.messages"),
        ({"messages": [USER]}, "row.roles"),
        ({"messages": [SYSTEM]}, "row.roles"),
        ({"messages": [ASSISTANT, USER]}, "row.roles"),
        ({"messages": [USER, USER, ASSISTANT]}, "row.roles"),
        ({"messages": [{"role": "tool", "content": "secret"}]}, "row.roles"),
        ({"messages": [{"role": ["user"], "content": "secret"}]}, "row.roles"),
        ({"messages": [USER, {"role": "assistant"}]}, "row.missing_field"),
    ],
)
def test_bad_rows_have_a_code_and_never_quote_their_content(fields: dict[str, Any], code: str) -> None:
    rejected = to_row(Record(line=9, fields=fields), Schema())
    assert isinstance(rejected, Rejected)
    assert (rejected.line, rejected.code) == (9, code)
    assert "secret" not in rejected.reason
    assert len(rejected.reason) < 200


@pytest.mark.parametrize(
    ("given", "side"), [("train", "train"), ("Test ", "heldout"), ("validation", "heldout"), ("", ""), (None, "")]
)
def test_the_split_column_is_understood(given: object, side: str) -> None:
    assert row({"text": "t", "split": given}).split == side


def test_column_names_that_look_like_content_are_numbered() -> None:
    assert name_columns(["id", "My name is Anna, born 1970", "x" * 41, ""]) == "id, (column 2), (column 3), (column 4)"
