"""What is wrong with the fields of a mapping that a person wrote, in words: which field, what it takes, what it got.

The types decide, as they do where the mapping is converted: what passes here is what `msgspec.convert` takes, field by
field. How fields go together is not known here.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec.inspect import (
    BoolType,
    DictType,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    NoneType,
    StrType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

_SHOWN: Final = 40
_DECIMAL_COMMA: Final = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFault:
    """One fault. `text` begins with the name of the field and has no full stop; `hint` says what to do."""

    field: str
    text: str
    hint: str
    alone: bool = True
    """whether the field is wrong by itself, not beside another"""


def fault_in(
    form: type[msgspec.Struct], given: Mapping[str, Any], *, name: str, listed: str, path: str = ""
) -> FieldFault | None:
    """Return the first field of a mapping that the form does not take; None where each by itself is well.

    `name` is what has the fields (`lora`), `listed` says where they are listed, `path` stands before a field's name.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(form)}
    for key, value in given.items():
        if key not in fields:
            near = nearest(key, tuple(fields))
            told = f"; the nearest is {near}" if near else ""
            return FieldFault(field=key, text=f"{name} has no field {_cut(key)}{told}", hint=listed)
        field = fields[key]
        if not _takes(field.type, value):
            default = "" if field.default in (msgspec.NODEFAULT, None) else _shown(msgspec.to_builtins(field.default))
            return _refused(f"{path}{key}", key, type_info(field.type), value, default=default)
    for key, field in fields.items():
        if field.required and key not in given:
            return FieldFault(field="", text=f"{name} needs {key}", hint=listed)
    return None


def nearest(word: str, known: Sequence[str]) -> str:
    """Return the known word that somebody who wrote `word` probably meant; empty where none is near."""
    return next(iter(difflib.get_close_matches(word, known, n=1)), "")


def listing(words: Sequence[str], *, last: str = "or") -> str:
    """Return `a, b or c`."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _takes(kind: Any, value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _refused(shown: str, key: str, kind: Type, value: Any, *, default: str) -> FieldFault:
    return FieldFault(
        field=key,
        text=f"{shown} cannot be {_shown(value)}; it takes {_wanted(kind)}",
        hint=_advice(kind, value) or (f"Without it, it is {default}." if default else f"Correct {shown}."),
    )


def _advice(kind: Type, value: Any) -> str:
    if isinstance(kind, VarTupleType) and not isinstance(value, list | tuple):
        return f"Write a list, such as [{_shown(value)}]."
    if not isinstance(value, str):
        return ""
    if choices := [choice for choice in _choices(kind) if choice == nearest(value, _choices(kind))]:
        return f"Did you mean {choices[0]}?"
    if _numeric(kind) and _DECIMAL_COMMA.fullmatch(value.strip()):
        if isinstance(kind, IntType):
            return "Give one number."
        return f"Write the decimal sign as a point: {value.strip().replace(',', '.')}."
    if _numeric(kind) and re.fullmatch(r"[-+.\deE]+", value):
        return "Write the number without quotes."
    return ""


def _wanted(kind: Type) -> str:
    """Say what a type takes."""
    match kind:
        case Metadata():
            return _wanted(kind.type)
        case IntType():
            return f"a whole number{_bounds(kind)}"
        case FloatType():
            return f"a number{_bounds(kind)}"
        case BoolType():
            return "true or false"
        case StrType():
            return f"a text that matches {kind.pattern}" if kind.pattern else "a text"
        case LiteralType():
            return listing(list(map(str, kind.values)))
        case VarTupleType():
            return f"a list, each of which is {_wanted(kind.item_type)}"
        case UnionType():
            return _one_of(kind)
        case DictType() | StructType():
            return "a mapping"
    return "another kind of value"


def _one_of(kind: UnionType) -> str:
    types = [one for one in kind.types if not isinstance(one, NoneType)]
    if any(isinstance(one, FloatType) for one in types):  # whole numbers are numbers
        types = [one for one in types if not isinstance(one, IntType)]
    return listing([_wanted(one) for one in types])


def _bounds(kind: IntType | FloatType) -> str:
    low = "" if kind.ge is None else f"from {_number(kind.ge)}"
    low = low if kind.gt is None else f"above {_number(kind.gt)}"
    high = "" if kind.le is None else f"to {_number(kind.le)}"
    high = high if kind.lt is None else f"to below {_number(kind.lt)}"
    return "".join(f" {part}" for part in (low, high) if part)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _numeric(kind: Type) -> bool:
    match kind:
        case Metadata():
            return _numeric(kind.type)
        case UnionType():
            return any(map(_numeric, kind.types))
    return isinstance(kind, IntType | FloatType)


def _choices(kind: Type) -> tuple[str, ...]:
    return tuple(map(str, kind.values)) if isinstance(kind, LiteralType) else ()


def _shown(value: Any) -> str:
    try:
        return repr(_cut(value)) if isinstance(value, str) else _cut(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):
        return type(value).__name__


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
