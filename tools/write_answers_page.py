"""`make docs`: write docs/it-staff/answers.md from the structs of the answer file, so that the two stay together."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tools.documented_fields import Field, fields_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "it-staff" / "answers.md"
SOURCE = ROOT / "installer" / "answers.py"
EXAMPLE = ROOT / "installer" / "answer_example.py"
SECTIONS = (
    ("", "Answers"),
    ("admin", "Admin"),
    ("network", "Network"),
    ("storage", "Storage"),
    ("storage.tang_servers", "TangServer"),
    ("tls", "Tls"),
    ("app", "App"),
    ("fleet", "Fleet"),
    ("fleet.boxes", "FleetBox"),
    ("monitor", "Monitor"),
    ("backup", "Backup"),
    ("ssh", "Ssh"),
    ("firewall", "Firewall"),
    ("console", "Console"),
    ("lifeline", "Lifeline"),
)
"""Table of the file -> struct, in the order of the page."""
_TOP = """# Answers

Written by `make docs` from `installer/answers.py`. Do not edit.

An unattended installation reads its answers from one TOML file: `intramuros install --answers FILE --bundle DIR --yes`.
The wizard writes the same file, so an installation can be repeated. `intramuros answers example` prints one to begin
with, and `intramuros answers check FILE` checks one on any machine.

An unknown key, a value out of range or answers that contradict each other are refused with the file's name and every
key at fault. A key without a default must be given. No secret is an answer: passwords, passphrases and private keys are
named by the path of a file that belongs to root and has mode 0600; it is read when the installation begins, kept in
memory, and can be removed afterwards. Addresses and networks are IPv4 or IPv6, networks in CIDR form.
"""


def page() -> str:
    """Return the page as it should be."""
    parts = [_TOP, "## Example\n", f"```toml\n{_example()}```\n"]
    for name, struct in SECTIONS:
        title = f"[[{name}]]" if struct in {"TangServer", "FleetBox"} else f"[{name}]"
        parts.append(f"## {title if name else 'At the top'}\n")
        if name:
            parts.append(f"{_purpose(struct)}\n")
        parts.append("\n".join(_table(fields_of(SOURCE, struct))) + "\n")
    return "\n".join(parts)


def _table(fields: list[Field]) -> list[str]:
    rows = [
        f"| `{field.name}` | {_kind(field)} | {_default(field)} | {field.meaning} |"
        for field in fields
        if field.meaning
    ]
    return ["| key | kind | default | meaning |", "| --- | --- | --- | --- |", *rows]


def _default(field: Field) -> str:
    """Return the default as TOML spells it."""
    if not field.default:
        return "must be given"
    toml = {"()": "[]", "True": "true", "False": "false"}.get(field.default, field.default)
    return f"`{toml}`"


def _kind(field: Field) -> str:
    kind = field.type
    if kind.startswith("Literal["):
        return "one of " + ", ".join(f"`{ast.unparse(value)}`" for value in _values(kind)).replace("'", '"')
    if kind.startswith("tuple["):
        inner = kind.removeprefix("tuple[").removesuffix(", ...]")
        if inner.startswith("Literal["):
            return "list of " + ", ".join(f"`{ast.unparse(value)}`" for value in _values(inner)).replace("'", '"')
        return "list of tables" if inner not in {"str", "int"} else "list of texts"
    words = {"str": "text", "int": "whole number", "bool": "`true` or `false`"}[kind]
    return f"{words}, {field.limits}" if field.limits and kind == "int" else words


def _values(literal: str) -> list[ast.expr]:
    expression = ast.parse(literal, mode="eval").body
    assert isinstance(expression, ast.Subscript)
    return expression.slice.elts if isinstance(expression.slice, ast.Tuple) else [expression.slice]


def _purpose(struct: str) -> str:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == struct)
    return ast.get_docstring(found) or ""


def _example() -> str:
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    assign = next(node for node in tree.body if isinstance(node, ast.Assign))
    return str(ast.literal_eval(assign.value))


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
