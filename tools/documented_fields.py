"""Reads the documented fields of a struct from its source: name, type, range, default and the text below it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One documented field of a struct."""

    name: str
    type: str
    limits: str
    default: str
    meaning: str


def fields_of(source: Path, name: str) -> list[Field]:
    """Read every field of a class, with the text below it."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    table = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    found = []
    for statement, following in zip(table.body, [*table.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        kind, limits = _type_of(statement.annotation)
        found.append(
            Field(
                name=statement.target.id,
                type=kind,
                limits=limits,
                default=_default(statement.value),
                meaning=_docstring(following),
            )
        )
    return found


def table(fields: list[Field]) -> list[str]:
    """Return the rows of a Markdown table of fields, its head included."""
    rows = [
        f"| `{field.name}` | {field.type} | `{field.default}` | {field.limits} | {field.meaning} |" for field in fields
    ]
    return ["| name | type | default | range | meaning |", "| --- | --- | --- | --- | --- |", *rows]


def _default(value: ast.expr | None) -> str:
    if value is None:
        return ""
    # `1 << 20` reads well in the table and badly on the page.
    text = ast.unparse(value)
    if isinstance(value, ast.BinOp) and isinstance(value.left, ast.Constant) and isinstance(value.right, ast.Constant):
        return str(int(str(value.left.value)) << int(str(value.right.value)))
    return text.replace("'", '"')


def _type_of(annotation: ast.expr) -> tuple[str, str]:
    annotated = isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated"
    if annotated and isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        kind, meta = annotation.slice.elts
        signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
        words = meta.keywords if isinstance(meta, ast.Call) else []
        limits = ", ".join(f"{signs[word.arg]} {ast.unparse(word.value)}" for word in words if word.arg in signs)
        return ast.unparse(kind), limits
    return ast.unparse(annotation), ""


def _docstring(statement: ast.stmt | None) -> str:
    if (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ):
        return " ".join(statement.value.value.split()).replace("|", "\\|")
    return ""
