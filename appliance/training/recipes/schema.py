"""A recipe's fields as data: name, type, default, range and meaning, for whoever lets a person fill them in.

Types and ranges are what the parser itself enforces (`msgspec.inspect`); the meaning is the text below the field in the
source, so that a form, the documentation and the code cannot say different things.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from msgspec.inspect import (
    BoolType,
    Field,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    StrType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from appliance.training.recipes.base import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeField:
    """One field. `type` is int | float | bool | text | choice | list | any; the bounds are for numbers."""

    name: str
    type: str
    default: Any
    meaning: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    """exclusive bound"""
    below: float | None = None
    """exclusive bound"""
    choices: tuple[str, ...] = ()


@cache
def fields_of(form: type[Recipe]) -> tuple[RecipeField, ...]:
    """Return the fields of a recipe, its own before those that it inherits."""
    described = type_info(form)
    assert isinstance(described, StructType)
    known = {field.name: field for field in described.fields}
    meanings: dict[str, str] = {}
    for ancestor in form.__mro__:
        if not issubclass(ancestor, Recipe):
            break
        for name, meaning in _meanings(ancestor).items():
            meanings[name] = meanings.get(name) or meaning
    return tuple(_field(known[name], meaning) for name, meaning in meanings.items())


def _meanings(form: type[Recipe]) -> dict[str, str]:
    """Return name -> the text below it, empty where a subclass changes the default alone."""
    (table,) = ast.parse(textwrap.dedent(inspect.getsource(form))).body
    assert isinstance(table, ast.ClassDef)
    found = {}
    for statement, following in zip(table.body, [*table.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = _text(following)
    return found


def _text(statement: ast.stmt | None) -> str:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return " ".join(value.value.split()) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _field(field: Field, meaning: str) -> RecipeField:
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    inner = field.type.type if isinstance(field.type, Metadata) else field.type
    known = {"name": field.name, "default": msgspec.to_builtins(default), "meaning": meaning}
    if isinstance(inner, IntType | FloatType):
        return RecipeField(
            **known,
            type="int" if isinstance(inner, IntType) else "float",
            minimum=inner.ge,
            maximum=inner.le,
            above=inner.gt,
            below=inner.lt,
        )
    return RecipeField(**known, type=_kind(inner), choices=_choices(inner))


def _kind(described: Type) -> str:
    match described:
        case BoolType():
            return "bool"
        case StrType():
            return "text"
        case LiteralType():
            return "choice"
        case VarTupleType():
            return "list"
        case UnionType():
            return "any"
    raise AssertionError(f"a recipe's field has a type that no form can show: {described}")


def _choices(described: Type) -> tuple[str, ...]:
    return tuple(map(str, described.values)) if isinstance(described, LiteralType) else ()
