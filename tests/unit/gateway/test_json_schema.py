"""Which schemas are taken, and what is said of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.gateway.json_schema import LARGEST_SCHEMA, SchemaBudget
from appliance.gateway.refusals import Refusal

TAKEN: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": ["string", "null"]}}},
    {"type": "array", "items": False, "prefixItems": [{"const": 1}, True], "minItems": 2, "maxItems": 2},
    {"anyOf": [{"type": "integer", "multipleOf": 5, "minimum": 0}, {"enum": [None, "a", {"b": []}]}]},
    {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a", "format": "date"},
    {"title": "t", "description": "d", "default": 1, "examples": [1], "$comment": "c", "$schema": "x"},
    {"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": {"type": "number"}, "minProperties": 1},
]


@pytest.mark.parametrize("schema", TAKEN)
def test_taken_as_it_is_written(schema: dict[str, Any]) -> None:
    assert json.loads(SchemaBudget().check(schema, "s")) == schema
    assert list(json.loads(SchemaBudget().check(schema, "s"))) == list(schema)


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "param", "code"),
    [
        ({"not": {}}, "s.not", "unsupported_schema"),
        ({"properties": {"a": {"uniqueItems": True}}}, "s.properties.a.uniqueItems", "unsupported_schema"),
        ({"anyOf": [{}, {"if": {}}]}, "s.anyOf[1].if", "unsupported_schema"),
        ({"x-guidance": {"lenient": True}}, "s.x-guidance", "unsupported_schema"),
        ({"$ref": "https://example.org/s"}, "s.$ref", "unsupported_schema"),
        ({"$id": "a"}, "s.$id", "unsupported_schema"),
        ({"format": "phone"}, "s.format", "unsupported_schema"),
        ({"multipleOf": 0.1}, "s.multipleOf", "unsupported_schema"),
        ({"multipleOf": 99991}, "s.multipleOf", "unsupported_schema"),
        ({"minProperties": 2}, "s.minProperties", "unsupported_schema"),
        ({"type": "text"}, "s.type", "invalid_schema"),
        ({"type": []}, "s.type", "invalid_schema"),
        ({"properties": []}, "s.properties", "invalid_schema"),
        ({"properties": {"a": 1}}, "s.properties.a", "invalid_schema"),
        ({"anyOf": []}, "s.anyOf", "invalid_schema"),
        ({"enum": []}, "s.enum", "invalid_schema"),
        ({"required": "a"}, "s.required", "invalid_schema"),
        ({"minLength": -1}, "s.minLength", "invalid_schema"),
        ({"minLength": True}, "s.minLength", "invalid_schema"),
        ({"minimum": "1"}, "s.minimum", "invalid_schema"),
        ({"maximum": 10**400}, "s.maximum", "invalid_schema"),
        ({"maximum": float("nan")}, "s.maximum", "invalid_schema"),
        ({"pattern": 1}, "s.pattern", "invalid_schema"),
        ({"pattern": "a" * 513}, "s.pattern", "schema_too_large"),
        ({"patternProperties": {"a" * 513: {}}}, "s.patternProperties", "schema_too_large"),
        ({"enum": list(range(1001))}, "s.enum", "schema_too_large"),
        ({"properties": {f"p{i}": {} for i in range(500)}}, "s.properties.p499", "schema_too_large"),
        ({"properties": {f"p{i}": {"format": "uri"} for i in range(90)}}, "s.properties.p83", "schema_too_large"),
        (
            {"properties": {f"p{i}": {"multipleOf": 1000} for i in range(9)}},
            "s.properties.p4",
            "schema_too_large",
        ),
        (_deep(32), "s" + ".items" * 32, "schema_too_large"),
        ({"description": "x" * LARGEST_SCHEMA}, "s", "schema_too_large"),
    ],
)
def test_refused_by_its_path(schema: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        SchemaBudget().check(schema, "s")
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    assert caught.value.message.startswith(f"{param}: ")


def test_all_schemas_of_a_request_share_the_bounds() -> None:
    budget = SchemaBudget()
    budget.check({"enum": list(range(600))}, "a")
    with pytest.raises(Refusal, match="more than 1000 values"):
        budget.check({"enum": list(range(600))}, "b")
