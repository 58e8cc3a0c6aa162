from __future__ import annotations

from typing import Any

import pytest

from appliance.datasets.forms import Form, Schema, Shape, schema_from
from appliance.kernel.errors import BadInput


def found(*columns: str, form: str = "") -> Shape | None:
    return schema_from({}, form=form).shape_of(columns)


@pytest.mark.parametrize(
    ("columns", "form"),
    [
        (("text", "category"), Form.CLASSIFICATION),
        (("category", "text", "id"), Form.CLASSIFICATION),
        (("text",), Form.TEXT),
        (("text", "note"), Form.TEXT),
        (("question", "answer", "category"), Form.CHAT),
        (("prompt", "chosen", "rejected", "messages"), Form.PREFERENCE),
        (("tokens", "ner_tags"), Form.TAGS),
        (("text", "spans", "label"), Form.TAGS),
    ],
)
def test_the_columns_tell_the_form(columns: tuple[str, ...], form: Form) -> None:
    shape = found(*columns)
    assert shape is not None
    assert shape.form == form


def test_a_form_that_is_asked_for_wins() -> None:
    assert found("text", "label", form="text") == Shape(text="text")
    assert found("prompt", "completion", form="completion") == Shape(prompt="prompt", completion="completion")
    assert found("prompt", "completion", form="instruction") == Shape(prompt="prompt", answer="completion")
    assert found("text", form="classification") is None


@pytest.mark.parametrize(
    ("mapping", "shape"),
    [
        ({"label": "intent"}, Shape(text="text", label="intent")),
        ({"text": "body", "label": "x", "split": "part"}, Shape(text="body", label="x")),
        ({"chosen": "a", "rejected": "b"}, Shape(chosen="a", rejected="b")),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, Shape(prompt="p", chosen="a", rejected="b")),
        ({"prompt": "p", "answer": "a", "system": "s"}, Shape(prompt="p", answer="a", system="s")),
        ({"tokens": "t", "tags": "n"}, Shape(tokens="t", tags="n")),
        ({"split": "part"}, None),
    ],
)
def test_a_mapping_makes_a_shape(mapping: dict[str, str], shape: Shape | None) -> None:
    schema = schema_from(mapping)
    assert schema.shape == shape
    assert schema.split == mapping.get("split", "split")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"mapping": {"prompt": "a"}}, "dataset.mapping"),
        ({"mapping": {"text": "a", "label": "b", "prompt": "c"}}, "dataset.mapping"),
        ({"mapping": [1]}, "dataset.mapping"),
        ({"mapping": {}, "form": "novel"}, "dataset.form"),
        ({"mapping": {}, "form": 3}, "dataset.form"),
        ({"mapping": {"text": "a"}, "form": "chat"}, "dataset.form"),
        ({"mapping": {}, "labels": [""]}, "dataset.labels"),
        ({"mapping": {}, "labels": "yes"}, "dataset.labels"),
        ({"mapping": {"text": "a"}, "labels": ["yes"]}, "dataset.labels"),
        ({"mapping": {}, "form": "chat", "labels": ["yes"]}, "dataset.labels"),
        ({"mapping": {}, "keep": [1]}, "dataset.mapping"),
    ],
)
def test_wishes_that_contradict_are_refused(arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(BadInput) as raised:
        schema_from(**arguments)
    assert raised.value.code == code


def test_a_header_is_held_against_shape_and_kept_columns() -> None:
    assert Schema().require_columns(["text", "x"], name="f") == Shape(text="text")
    with pytest.raises(BadInput, match="no column day"):
        Schema(keep=("day",)).require_columns(["text"], name="f")
    with pytest.raises(BadInput, match="of the form tags"):
        Schema(form=Form.TAGS).require_columns(["text"], name="f")
