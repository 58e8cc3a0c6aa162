"""JSON schemas as rules of a Lark grammar: what is between the parts of a document, and which names it may have.

An object that names its properties gets no others, unless its schema says so: weak models would go on with names of
their own for ever, and every document that is left is valid. OpenAI asks for this in words (`additionalProperties`
false), llama.cpp and XGrammar do it unasked. Pure.
"""

from __future__ import annotations

import json
from typing import Any, Final

WHITESPACE: Final = r"[ \n\t]{1,20}"
"""between the parts of a JSON document; bounded, for small models like to go on with spaces for ever"""

_MERGING: Final = frozenset(("allOf", "anyOf", "oneOf", "$ref"))
_ONE: Final = ("items", "additionalProperties")
_LIST: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAP: Final = ("properties", "patternProperties", "$defs", "definitions")


def document(schema: Any) -> str:
    """The rule body for a document of a schema."""
    if not _merges(schema):
        schema = _closed(schema)
    if schema is True:
        schema = {}
    if isinstance(schema, dict):
        schema = {"x-guidance": {"whitespace_pattern": WHITESPACE}, **schema}
    return f"%json {json.dumps(schema, ensure_ascii=False)}"


def moved(schema: Any, root: str) -> Any:
    """The schema with its references pointing into `root`, where it will stand."""
    if not isinstance(schema, dict):
        return schema
    changed = _each(schema, lambda part: moved(part, root))
    reference = changed.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        changed["$ref"] = root + reference[1:]
    return changed


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    changed = _each(schema, _closed)
    named = changed.get("properties")
    if (
        isinstance(named, dict)
        and "patternProperties" not in changed
        and set(changed.get("required", ())) <= set(named)
    ):
        changed.setdefault("additionalProperties", False)
    return changed


def _merges(schema: Any) -> bool:
    """Whether an object's properties may come from more than one schema: then none of them can be closed alone."""
    if not isinstance(schema, dict):
        return False
    if "allOf" in schema or ("properties" in schema and _MERGING & schema.keys()):
        return True
    return any(_merges(part) for part in _parts(schema))


def _parts(schema: dict[str, Any]) -> list[Any]:
    parts: list[Any] = []
    _each(schema, parts.append)
    return parts


def _each(schema: dict[str, Any], change: Any) -> dict[str, Any]:
    """The schema with every schema directly in it changed; values that only look like one are left alone."""
    changed = dict(schema)
    for keyword in _ONE:
        if keyword in changed:
            changed[keyword] = change(changed[keyword])
    for keyword in _LIST:
        if isinstance(changed.get(keyword), list):
            changed[keyword] = [change(part) for part in changed[keyword]]
    for keyword in _MAP:
        if isinstance(changed.get(keyword), dict):
            changed[keyword] = {name: change(part) for name, part in changed[keyword].items()}
    return changed
