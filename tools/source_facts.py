"""What the sources say about themselves, read from their syntax trees without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("appliance", "tui", "installer")
_KERNEL = ROOT / "appliance" / "kernel" / "errors.py"
_BASE = "IntramurosError"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ErrorUse:
    """One code as one class of error carries it. `message` has `…` where a value is put in."""

    code: str
    error: str
    message: str
    hint: str


def trees() -> Iterator[ast.Module]:
    """Yield the syntax tree of every module of the product."""
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def error_kinds() -> dict[str, int]:
    """Return name -> exit code of the error classes of the kernel."""
    codes: dict[str, int] = {}
    for node in ast.parse(_KERNEL.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for base in node.bases:
            if isinstance(base, ast.Name) and (base.id in codes or base.id == "Exception"):
                codes[node.name] = codes.get(base.id, 70)
        for statement in node.body:
            target, value = _assignment(statement)
            if target == "exit_code" and isinstance(value, ast.Constant) and isinstance(value.value, int):
                codes[node.name] = value.value
    return codes


def error_classes() -> dict[str, str]:
    """Return name -> kind of every error class whose first argument is a code, derived ones too."""
    kinds = {name: name for name in error_kinds()}
    derived = [node for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while True:
        found = {
            node.name: kinds[_last_name(base)]
            for node in derived
            for base in node.bases
            if _last_name(base) in kinds and node.name not in kinds and not _has_constructor(node)
        }
        if not found:
            return kinds
        kinds |= found


def error_uses() -> list[ErrorUse]:
    """Return every error whose code stands in the sources as a literal, each code once per class."""
    classes = error_classes()
    found: dict[tuple[str, str], ErrorUse] = {}
    for tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or _last_name(node.func) not in classes or len(node.args) < 2:
                continue
            code = node.args[0]
            if not isinstance(code, ast.Constant) or not isinstance(code.value, str):
                continue
            use = ErrorUse(
                code=code.value,
                error=classes[_last_name(node.func)],
                message=_text(node.args[1]),
                hint=next((_text(word.value) for word in node.keywords if word.arg == "hint"), ""),
            )
            found.setdefault((use.code, use.error), use)
    return sorted(found.values())


def _has_constructor(node: ast.ClassDef) -> bool:
    return any(isinstance(statement, ast.FunctionDef) and statement.name == "__init__" for statement in node.body)


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, statement.value
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.value
    return "", None


def _last_name(expression: ast.expr) -> str:
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _text(expression: ast.expr) -> str:
    match expression:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case _:
            return "…"
