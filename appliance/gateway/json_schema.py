"""Which JSON schemas an answer can be held to: every keyword is served, an annotation, or refused by its path.

Owns the sizes that a request's schemas may have; what a schema means is the engine's business (`engine/grammar.py`).
Invariant: no keyword that narrows what is valid is ever passed over in silence. Pure.
Source: JSON Schema draft 2020-12.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from appliance.gateway.refusals import Refusal, bad_request

LARGEST_SCHEMA: Final = 64 * 1024
DEEPEST: Final = 32
MOST_PARTS: Final = 500
MOST_CHOICES: Final = 1000
LONGEST_PATTERN: Final = 512
LARGEST_MULTIPLE: Final = 1000
FORMATS: Final = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"),
)
TYPES: Final = frozenset(("null", "boolean", "object", "array", "number", "string", "integer"))
_ANNOTATIONS: Final = frozenset(
    (
        *("$schema", "$comment", "title", "description", "default", "examples", "deprecated"),
        *("readOnly", "writeOnly", "discriminator"),  # the last is OpenAPI's, beside a oneOf that says the same
    )
)
_ONE: Final = frozenset(("items", "additionalProperties"))
_LIST: Final = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
_MAP: Final = frozenset(("properties", "patternProperties", "$defs", "definitions"))
_COUNT: Final = frozenset(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"))
_NUMBER: Final = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))


_WEIGHTS: Final = {"format": 5, "pattern": 2, "multipleOf": 2} | dict.fromkeys(_NUMBER, 2)
"""how many parts more these make, by what they cost to compile"""


class SchemaBudget:
    """Checks the schemas of one request, which share one bound."""

    def __init__(self) -> None:
        self._parts = 0
        self._choices = 0
        self._letters = 0

    def check(self, schema: dict[str, Any], where: str) -> str:
        """Return the schema as compact JSON. Raises Refusal (400) that names the path below `where`."""
        self._schema(schema, where, 1)
        text = msgspec.json.encode(schema).decode()
        self._letters += len(text)
        if self._letters > LARGEST_SCHEMA:
            raise _too_large(where, f"the schemas have more than {LARGEST_SCHEMA} characters")
        return text

    def _schema(self, schema: Any, where: str, depth: int) -> None:
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            raise _wrong(where, "a schema is an object, true or false")
        self._parts += 1 + sum(_WEIGHTS.get(keyword, 0) for keyword in schema) + _multiple(schema) // 10
        if self._parts > MOST_PARTS:
            raise _too_large(where, f"the schemas have more than {MOST_PARTS} parts")
        if depth > DEEPEST:
            raise _too_large(where, f"the schema is nested more than {DEEPEST} deep")
        for keyword, value in schema.items():
            self._keyword(keyword, value, f"{where}.{keyword}", depth)

    def _keyword(self, keyword: str, value: Any, where: str, depth: int) -> None:
        if keyword in _ANNOTATIONS:
            return
        if keyword in _ONE:
            self._schema(value, where, depth + 1)
        elif keyword in _LIST:
            if not isinstance(value, list) or not value:
                raise _wrong(where, "a list of schemas is needed")
            for index, entry in enumerate(value):
                self._schema(entry, f"{where}[{index}]", depth + 1)
        elif keyword in _MAP:
            if not isinstance(value, dict):
                raise _wrong(where, "an object of schemas is needed")
            for name, entry in value.items():
                if keyword == "patternProperties":
                    _check_pattern(name, where)
                self._schema(entry, f"{where}.{name}", depth + 1)
        elif keyword == "enum":
            self._check_choices(value, where)
        elif keyword == "const":
            self._check_choices([value], where)
        elif keyword in _CHECKS:
            _CHECKS[keyword](value, where)
        else:
            message = f"{where}: the keyword {keyword!r} is not supported in a schema."
            raise bad_request(message, param=where, code="unsupported_schema")

    def _check_choices(self, value: Any, where: str) -> None:
        if not isinstance(value, list) or not value:
            raise _wrong(where, "a list of values is needed")
        self._choices += len(value)
        if self._choices > MOST_CHOICES:
            raise _too_large(where, f"the schemas have more than {MOST_CHOICES} values to choose from")


def _multiple(schema: dict[str, Any]) -> int:
    """A `multipleOf`, whose automaton has as many states: several of them together take minutes to compile."""
    value = schema.get("multipleOf")
    return value if isinstance(value, int) and 0 < value <= LARGEST_MULTIPLE else 0  # others are refused by name


def _check_type(value: Any, where: str) -> None:
    types = value if isinstance(value, list) else [value]
    if not types or not all(isinstance(entry, str) and entry in TYPES for entry in types):
        raise _wrong(where, f"one or more of {', '.join(sorted(TYPES))} is needed")


def _check_required(value: Any, where: str) -> None:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise _wrong(where, "a list of names is needed")


def _check_reference(value: Any, where: str) -> None:
    if not isinstance(value, str) or not (value == "#" or value.startswith("#/")):
        raise _unsupported(where, "only references into the same schema are, such as '#/$defs/name'")


def _check_pattern(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise _wrong(where, "a regular expression is needed")
    if len(value) > LONGEST_PATTERN:
        raise _too_large(where, f"the pattern is longer than {LONGEST_PATTERN} characters")


def _check_format(value: Any, where: str) -> None:
    if not isinstance(value, str) or value not in FORMATS:
        raise _unsupported(where, f"only the formats {', '.join(sorted(FORMATS))} are")


def _check_multiple(value: Any, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_MULTIPLE:
        raise _unsupported(where, f"only whole numbers from 1 to {LARGEST_MULTIPLE} are")


def _check_count(value: Any, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise _wrong(where, "a whole number that is not negative is needed")


def _check_fewest_properties(value: Any, where: str) -> None:
    _check_count(value, where)
    if value > 1:  # a name that is generated twice would count once
        raise _unsupported(where, "only 0 and 1 are; name the properties in 'required'")


def _check_number(value: Any, where: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise _wrong(where, "a number is needed")


_CHECKS: Final[dict[str, Callable[[Any, str], None]]] = {
    "type": _check_type,
    "required": _check_required,
    "$ref": _check_reference,
    "pattern": _check_pattern,
    "format": _check_format,
    "multipleOf": _check_multiple,
    **dict.fromkeys(_COUNT, _check_count),
    **dict.fromkeys(_NUMBER, _check_number),
    "minProperties": _check_fewest_properties,
}


def _wrong(where: str, what: str) -> Refusal:
    return bad_request(f"{where}: {what}.", param=where, code="invalid_schema")


def _unsupported(where: str, what: str) -> Refusal:
    return bad_request(f"{where}: this is not supported; {what}.", param=where, code="unsupported_schema")


def _too_large(where: str, what: str) -> Refusal:
    return bad_request(f"{where}: {what}.", param=where, code="schema_too_large")
