"""The schema check against the reference implementation, which only tests have."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from appliance.evaluation.json_schema import check_schema, first_fault
from appliance.kernel.errors import BadInput

ORDER = {
    "type": "object",
    "required": ["id", "items"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$", "maxLength": 6},
        "items": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"$ref": "#/$defs/item"}},
        "note": {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 1}]},
    },
    "patternProperties": {"^x-": {"type": "boolean"}},
    "$defs": {"item": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10, "multipleOf": 2}},
}
SCHEMAS: list[Any] = [
    ORDER,
    {"enum": [1, "a", None, [1, 2]]},
    {"const": {"a": 1.0}},
    {"type": ["integer", "boolean"], "not": {"const": 3}},
    {"oneOf": [{"type": "number", "multipleOf": 3}, {"type": "number", "multipleOf": 5}]},
    {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "number"}, "contains": {"minimum": 5}},
    {"allOf": [{"minProperties": 1}, {"maxProperties": 2}], "type": "object"},
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-20, 20) | st.sampled_from([1.0, 2.5, "AB12", "a", "", "ABC"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "items", "note", "x-a", "a", "b"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def search(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


@pytest.mark.parametrize("schema", SCHEMAS)
@given(value=VALUES)
@settings(max_examples=80, deadline=None)
def test_it_agrees_with_the_reference(schema: Any, value: Any) -> None:
    check_schema(schema, where="task")
    wanted = Draft202012Validator(schema).is_valid(value)
    assert (first_fault(value, schema, search=search) == "") is wanted


def test_a_good_order_passes_and_a_fault_is_named() -> None:
    assert first_fault({"id": "AB12", "items": [2, 4], "x-fast": True}, ORDER, search=search) == ""
    assert "lacks 'items'" in first_fault({"id": "AB12"}, ORDER, search=search)
    assert "answer.items[1]" in first_fault({"id": "AB12", "items": [2, 11]}, ORDER, search=search)


@pytest.mark.parametrize(
    "schema", [{"if": {}}, {"type": "date"}, {"$ref": "https://example.org/s"}, {"pattern": "("}, {"minLength": "3"}, 7]
)
def test_what_is_not_known_is_refused_before_anything_is_asked(schema: Any) -> None:
    with pytest.raises(BadInput, match=r"suite\.schema"):
        check_schema(schema, where="task")
