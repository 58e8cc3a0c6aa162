from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from appliance.datasets.contents import FIELD_LIMIT, Refused, content_of
from appliance.datasets.forms import Schema, schema_from

USER = {"role": "user", "content": "q"}
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}
PREFERENCE = {"messages": [USER], "chosen": "good", "rejected": "bad"}
SPAN = {"start": 3, "end": 4, "label": "X"}


def content(fields: dict[str, Any], schema: Schema | None = None) -> dict[str, Any]:
    wanted = schema or Schema()
    shape = wanted.shape_of(fields)
    assert shape is not None
    return content_of(fields, shape, labels=wanted.labels, keep=wanted.keep)


def refusal(fields: dict[str, Any], schema: Schema | None = None) -> str:
    with pytest.raises(Refused) as raised:
        content(fields, schema)
    assert "secret" not in raised.value.reason
    return raised.value.code


def chat(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def said(who: str, text: str) -> dict[str, str]:
    return {"from": who, "value": text}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"conversations": [said("system", "s"), said("human", "q"), said("gpt", "a")]},
            chat(("system", "s"), ("user", "q"), ("assistant", "a")),
        ),
        ({"messages": json.dumps([USER, GOOD])}, {"messages": [USER, GOOD]}),
        (
            {"instruction": "q", "input": "", "system": "s", "output": "a"},
            chat(("system", "s"), ("user", "q"), ("assistant", "a")),
        ),
        (
            {"instruction": "q", "context": "c", "response": "a", "category": "x"},
            chat(("user", "q\n\nc"), ("assistant", "a")),
        ),
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, PREFERENCE),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, PREFERENCE),
        ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, PREFERENCE),
        ({"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER]}, PREFERENCE),
        ({"text": "t", "label": " a \n b "}, {"text": "t", "label": "a b"}),
        ({"sentence": "t", "intent": 3}, {"text": "t", "label": "3"}),
        ({"query": "t", "label": True}, {"text": "t", "label": "true"}),
        (
            {"full_text": "hi Anna", "spans": [{"entity_type": "PERSON", "start_position": 3, "end_position": 7}]},
            {"text": "hi Anna", "spans": [{"start": 3, "end": 7, "label": "PERSON"}]},
        ),
        (
            {"text": "a\r\nb c", "spans": json.dumps([SPAN | {"start": 5, "end": 6}, SPAN | {"label": "Y"}])},
            {"text": "a\nb c", "spans": [{"start": 2, "end": 3, "label": "Y"}, {"start": 4, "end": 5, "label": "X"}]},
        ),
        (
            {"tokens": ["New", "York", "is", "big", "Anna"], "ner_tags": ["B-LOC", "I-LOC", "O", "O", "B-PER"]},
            {
                "text": "New York is big Anna",
                "spans": [{"start": 0, "end": 8, "label": "LOC"}, {"start": 16, "end": 20, "label": "PER"}],
            },
        ),
        (
            {"tokens": ["a", "b", "c"], "tags": ["B-X", "B-X", "I-Y"]},
            {
                "text": "a b c",
                "spans": [
                    {"start": 0, "end": 1, "label": "X"},
                    {"start": 2, "end": 3, "label": "X"},
                    {"start": 4, "end": 5, "label": "Y"},
                ],
            },
        ),
    ],
)
def test_records_of_every_form_become_canonical(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert content(fields) == expected


def test_a_stored_preference_row_can_be_brought_in_again() -> None:
    row = {"messages": [{"role": "system", "content": "Be kind."}, USER], "chosen": "Yes.", "rejected": "No."}
    assert content(row) == row
    renamed = {"asked": row["messages"], "good": "Yes.", "bad": "No."}
    assert content(renamed, schema_from({"messages": "asked", "chosen": "good", "rejected": "bad"})) == row


def test_a_completion_is_one_when_it_is_asked_for() -> None:
    fields = {"prompt": "def f(", "completion": "x):"}
    assert content(fields) == chat(("user", "def f("), ("assistant", "x):"))
    assert content(fields, schema_from({}, form="completion")) == fields
    mapped = schema_from({"prompt": "a", "completion": "b"})
    assert content({"a": "def f(", "b": "x):"}, mapped) == fields


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"prompt": "q", "chosen": "secret", "rejected": "secret"}, "row.same_answers"),
        ({"chosen": "a", "rejected": "b"}, "row.missing_field"),
        ({"chosen": [USER, GOOD], "rejected": [USER | {"content": "secret"}, BAD]}, "row.preference"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "row.missing_field"),
        ({"prompt": [GOOD], "chosen": "a", "rejected": "b"}, "row.roles"),
        ({"conversations": [{"from": "human", "value": "secret"}]}, "row.roles"),
        ({"text": "secret", "label": ""}, "row.empty"),
        ({"text": "secret", "label": None}, "row.missing_field"),
        ({"text": "secret", "label": "x" * 201}, "row.label"),
        ({"text": "secret", "label": 1.5}, "row.not_text"),
        ({"text": "secret", "spans": "none"}, "row.spans"),
        ({"text": "secret", "spans": ["x"]}, "row.spans"),
        ({"text": "secret", "spans": [{"start": 0, "end": 9, "label": "X"}]}, "row.spans"),
        ({"text": "secret", "spans": [{"start": 3, "end": 3, "label": "X"}]}, "row.spans"),
        ({"text": "secret", "spans": [{"start": -1, "end": 3, "label": "X"}]}, "row.spans"),
        ({"text": "secret", "spans": [{"start": "0", "end": 3, "label": "X"}]}, "row.spans"),
        ({"text": "secret", "spans": [{"start": 0, "end": 3}]}, "row.missing_field"),
        (
            {"text": "secret", "spans": [{"start": 0, "end": 3, "label": "X"}, {"start": 2, "end": 4, "label": "Y"}]},
            "row.spans",
        ),
        ({"tokens": ["secret"], "tags": ["O", "O"]}, "row.tags"),
        ({"tokens": ["secret"], "tags": [1]}, "row.tags"),
        ({"tokens": [], "tags": []}, "row.tags"),
        ({"tokens": ["x" * FIELD_LIMIT], "tags": ["O"]}, "row.too_long"),
    ],
)
def test_what_makes_no_row_has_a_code(fields: dict[str, Any], code: str) -> None:
    assert refusal(fields) == code


def test_a_label_outside_the_declared_ones_is_refused() -> None:
    declared = schema_from({}, labels=["yes", "no"])
    assert content({"text": "t", "label": "yes"}, declared) == {"text": "t", "label": "yes"}
    assert refusal({"text": "t", "label": "maybe"}, declared) == "row.label"
    assert refusal({"text": "t", "label": "a secret text " * 4}, declared) == "row.label"
    span = {"start": 0, "end": 1, "label": "maybe"}
    assert refusal({"text": "t", "spans": [span]}, declared) == "row.label"


def test_kept_columns_stand_under_meta() -> None:
    keep = schema_from({}, keep=["day", "n", "who"])
    fields = {"text": "t", "day": datetime.date(2026, 1, 2), "n": 3}
    assert content(fields, keep)["meta"] == {"day": "2026-01-02", "n": "3", "who": ""}
    assert refusal({"text": "t", "who": ["secret"]}, keep) == "row.meta"
    assert refusal({"text": "t", "who": "secret" * 99}, keep) == "row.meta"
