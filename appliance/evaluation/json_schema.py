"""Whether a JSON value keeps a schema: the part of JSON Schema (draft 2020-12) that answers are held to in practice.

A library for all of it exists, but the appliance's own environment does without it (decision 0031); what is not known
here is refused when a suite is added, so nothing passes unchecked. Patterns are not run here: they are given to the
caller's `search`, which bounds what a regular expression may cost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import BadInput

Search = Callable[[str, str], bool]
"""(pattern, text) -> whether it is found; may raise BadInput when it costs too much."""

_DEPTH: Final = 64
_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    ),
}
_ANNOTATIONS: Final = frozenset({"$schema", "$id", "$comment", "title", "description", "default", "examples"})
_SCHEMAS_BY_NAME: Final = ("properties", "$defs", "definitions", "patternProperties")
_SCHEMA_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS: Final = ("items", "not", "additionalProperties", "contains")
_NUMBERS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
)
_PLAIN: Final = ("type", "enum", "const", "required", "pattern", "uniqueItems", "$ref")
_KNOWN: Final = frozenset({*_SCHEMAS_BY_NAME, *_SCHEMA_LISTS, *_SCHEMAS, *_NUMBERS, *_PLAIN}) | _ANNOTATIONS


def check_schema(schema: Any, *, where: str) -> None:
    """Refuse a schema that cannot be held to in full. Raises BadInput `suite.schema`."""
    for fault in _schema_faults(schema, schema, "schema", 0):
        raise BadInput("suite.schema", f"{where}: {fault}.", hint="docs/operators/evaluation.md lists what is known.")


def first_fault(value: Any, schema: Any, *, search: Search) -> str:
    """Return what is wrong with a value first, or an empty text when it keeps a checked schema."""
    return next(_faults(value, schema, schema, "answer", search, 0), "")


def _schema_faults(schema: Any, root: Any, at: str, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        yield f"{at} is nested deeper than {_DEPTH}"
        return
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{at} is no schema"
        return
    yield from (f"{at} uses {key!r}, which is not known here" for key in schema.keys() - _KNOWN)
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            yield f"{at}.type is {kind!r}"
    for key in _NUMBERS:
        if not _TYPES["number"](schema.get(key, 0)):
            yield f"{at}.{key} is no number"
    for key in ("enum", "required"):
        if not isinstance(schema.get(key, []), list):
            yield f"{at}.{key} is no list"
    if "$ref" in schema and _resolve(root, schema["$ref"]) is None:
        yield f"{at}.$ref names {schema['$ref']!r}, which is not in this schema"
    for pattern in [schema.get("pattern", ""), *schema.get("patternProperties", {})]:
        try:
            re.compile(pattern)
        except (re.error, TypeError, RecursionError, OverflowError) as error:
            yield f"{at}: a pattern is no regular expression: {error}"
    for key in _SCHEMAS_BY_NAME:
        for name, inner in schema.get(key, {}).items():
            yield from _schema_faults(inner, root, f"{at}.{key}.{name}", depth + 1)
    for key in _SCHEMA_LISTS:
        for number, inner in enumerate(schema.get(key, [])):
            yield from _schema_faults(inner, root, f"{at}.{key}[{number}]", depth + 1)
    for key in _SCHEMAS:
        if key in schema:
            yield from _schema_faults(schema[key], root, f"{at}.{key}", depth + 1)


def _faults(value: Any, schema: Any, root: Any, at: str, search: Search, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        yield f"{at} is nested deeper than {_DEPTH}"
        return
    if isinstance(schema, bool):
        if not schema:
            yield f"{at} may not be there"
        return
    if "$ref" in schema:
        yield from _faults(value, _resolve(root, schema["$ref"]), root, at, search, depth + 1)
    yield from _value_faults(value, schema, at)
    yield from _combined_faults(value, schema, root, at, search, depth)
    match value:
        case str():
            yield from _bounds(len(value), schema, at, "Length")
            if "pattern" in schema and not search(schema["pattern"], value):
                yield f"{at} does not match {schema['pattern']!r}"
        case bool() | None:
            return
        case int() | float():
            yield from _number_faults(value, schema, at)
        case list():
            yield from _list_faults(value, schema, root, at, search, depth)
        case dict():
            yield from _object_faults(value, schema, root, at, search, depth)


def _value_faults(value: Any, schema: dict[str, Any], at: str) -> Iterator[str]:
    kinds = schema.get("type")
    if kinds is not None:
        named = kinds if isinstance(kinds, list) else [kinds]
        if not any(_TYPES[kind](value) for kind in named):
            yield f"{at} is no {' or '.join(named)}"
    if "enum" in schema and not any(_same(value, allowed) for allowed in schema["enum"]):
        yield f"{at} is none of the allowed values"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{at} is not the one allowed value"


def _combined_faults(
    value: Any, schema: dict[str, Any], root: Any, at: str, search: Search, depth: int
) -> Iterator[str]:
    def keeps(inner: Any) -> bool:
        return next(_faults(value, inner, root, at, search, depth + 1), None) is None

    for inner in schema.get("allOf", []):
        yield from _faults(value, inner, root, at, search, depth + 1)
    if "anyOf" in schema and not any(map(keeps, schema["anyOf"])):
        yield f"{at} keeps none of the schemas of anyOf"
    if "oneOf" in schema and sum(map(keeps, schema["oneOf"])) != 1:
        yield f"{at} does not keep exactly one schema of oneOf"
    if "not" in schema and keeps(schema["not"]):
        yield f"{at} keeps the schema that it must not"


def _number_faults(value: float, schema: dict[str, Any], at: str) -> Iterator[str]:
    bounds: dict[str, Callable[[float, float], bool]] = {
        "minimum": lambda x, bound: x >= bound,
        "maximum": lambda x, bound: x <= bound,
        "exclusiveMinimum": lambda x, bound: x > bound,
        "exclusiveMaximum": lambda x, bound: x < bound,
        "multipleOf": lambda x, unit: math.isclose(x / unit, round(x / unit), abs_tol=1e-9),
    }
    for key, holds in bounds.items():
        if key in schema and not holds(value, schema[key]):
            yield f"{at} breaks {key} {schema[key]}"


def _list_faults(
    value: list[Any], schema: dict[str, Any], root: Any, at: str, search: Search, depth: int
) -> Iterator[str]:
    yield from _bounds(len(value), schema, at, "Items")
    first = schema.get("prefixItems", [])
    for number, item in enumerate(value):
        inner = first[number] if number < len(first) else schema.get("items", True)
        yield from _faults(item, inner, root, f"{at}[{number}]", search, depth + 1)
    if "contains" in schema and not any(
        next(_faults(item, schema["contains"], root, at, search, depth + 1), None) is None for item in value
    ):
        yield f"{at} contains nothing of what it must"
    if schema.get("uniqueItems") and len({canonical_json(item) for item in value}) != len(value):
        yield f"{at} has an item twice"


def _object_faults(
    value: dict[str, Any], schema: dict[str, Any], root: Any, at: str, search: Search, depth: int
) -> Iterator[str]:
    yield from _bounds(len(value), schema, at, "Properties")
    yield from (f"{at} lacks {name!r}" for name in schema.get("required", []) if name not in value)
    for name, item in value.items():
        inner = [schema["properties"][name]] if name in schema.get("properties", {}) else []
        inner += [one for pattern, one in schema.get("patternProperties", {}).items() if search(pattern, name)]
        for one in inner or [schema.get("additionalProperties", True)]:
            yield from _faults(item, one, root, f"{at}.{name}", search, depth + 1)


def _bounds(size: int, schema: dict[str, Any], at: str, what: str) -> Iterator[str]:
    if size < schema.get(f"min{what}", 0):
        yield f"{at} is shorter than min{what}"
    if size > schema.get(f"max{what}", math.inf):
        yield f"{at} is longer than max{what}"


def _resolve(root: Any, reference: Any) -> Any:
    """Return what `#/…` names in the schema itself; nothing outside is ever looked up."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for part in [piece for piece in reference[1:].split("/") if piece]:
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _same(one: Any, other: Any) -> bool:
    """JSON equality: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)
