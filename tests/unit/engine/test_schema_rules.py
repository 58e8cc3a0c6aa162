from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engine.schema_rules import document, moved


def _document(schema: Any) -> Any:
    body = document(schema)
    assert body.startswith("%json ")
    made = json.loads(body.removeprefix("%json "))
    made.pop("x-guidance")
    return made


def test_objects_that_name_their_properties_get_no_others() -> None:
    inner = {"type": "object", "properties": {"properties": {"type": "string"}}}
    made = _document({"properties": {"a": {"items": inner}}, "$defs": {"b": inner}})
    closed = inner | {"additionalProperties": False}
    assert made == {
        "properties": {"a": {"items": closed}},
        "$defs": {"b": closed},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}},
        {"properties": {"a": {}}, "required": ["b"]},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]},
        {"enum": [{"properties": {"a": 1}}]},
        {"const": {"properties": {}}},
    ],
)
def test_other_schemas_stay_as_they_are(schema: dict[str, Any]) -> None:
    assert _document(schema) == schema


def test_references_move_with_their_schema_and_values_do_not() -> None:
    schema = {
        "properties": {"$ref": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"const": {"$ref": "#"}}},
        "items": {"$ref": "#"},
    }
    assert moved(schema, "#/x") == {
        "properties": {"$ref": {"$ref": "#/x/$defs/a"}},
        "$defs": {"a": {"const": {"$ref": "#"}}},
        "items": {"$ref": "#/x"},
    }
    assert moved(True, "#/x") is True


def test_true_is_any_document() -> None:
    assert _document(True) == {}
