"""`make docs`: write docs/it-staff/settings.md from the one table of settings, so that the two stay together."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "it-staff" / "settings.md"
_TABLE = ROOT / "appliance" / "kernel" / "settings.py"
_TOP = """# Settings

Written by `make docs` from `appliance/kernel/settings.py`. Do not edit.

Each setting has a default that works. Four places can change it; a later one wins:

1. the default below,
2. the file `intramuros.toml` in the state directory, for example `port = 9443`,
3. an environment variable: the name in capitals after `INTRAMUROS_`, for example `INTRAMUROS_PORT=9443`,
4. a flag of the command, where it has one.

An unknown key or a value out of range stops the start with one line that names the file, the variable or the flag.
The settings are read once, when the daemon starts: after a change run `intramuros down` and `intramuros up`. Sizes
are bytes, durations are seconds. No secret is a setting: secrets are files below `secrets/` in the state directory,
readable by their owner alone.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One setting as the page shows it."""

    name: str
    type: str
    limits: str
    default: str
    meaning: str


def fields() -> list[Field]:
    """Read every field of the settings table, with the text below it."""
    tree = ast.parse(_TABLE.read_text(encoding="utf-8"))
    table = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
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


def page() -> str:
    """Return the page as it should be."""
    rows = [
        f"| `{field.name}` | {field.type} | `{field.default}` | {field.limits} | {field.meaning} |"
        for field in fields()
    ]
    return "\n".join(
        [_TOP, "| name | type | default | range | meaning |", "| --- | --- | --- | --- | --- |", *rows, ""]
    )


def _default(value: ast.expr | None) -> str:
    if value is None:
        return ""
    # `1 << 20` reads well in the table and badly on the page.
    text = ast.unparse(value)
    if isinstance(value, ast.BinOp) and isinstance(value.left, ast.Constant) and isinstance(value.right, ast.Constant):
        return str(int(str(value.left.value)) << int(str(value.right.value)))
    return text.replace("'", '"')


def _type_of(annotation: ast.expr) -> tuple[str, str]:
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        kind, meta = annotation.slice.elts
        signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
        words = meta.keywords if isinstance(meta, ast.Call) else []
        limits = ", ".join(f"{signs.get(word.arg or '', word.arg)} {ast.unparse(word.value)}" for word in words)
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


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
