"""`make docs`: write docs/operators/error-codes.md from the errors that the sources raise."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from tools.source_facts import ErrorUse, error_kinds, error_uses

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operators" / "error-codes.md"
_TOP = """# Error codes

Written by `make docs` from the sources. Do not edit.

Every refusal and failure carries a stable code. The command line prints it before the message and ends with the exit
status of its kind; `--json` and the control API carry code, message and hint as fields. `…` stands for a name or a
number. Scripts should test the exit status or the code, never the message.
"""


def page() -> str:
    """Return the page as it should be."""
    classes = error_kinds()
    kinds = "\n".join(f"| {code} | {name} |" for name, code in classes.items() if name != "IntramurosError")
    parts = [_TOP, "## Exit status\n", f"| status | kind |\n| --- | --- |\n{kinds}\n"]
    for area, uses in groupby(error_uses(), key=lambda use: use.code.partition(".")[0]):
        parts.append(f"## {area}\n")
        parts.append("| code | kind | exit | message | what to do |\n| --- | --- | --- | --- | --- |")
        parts.append("\n".join(_row(use, classes[use.error]) for use in uses) + "\n")
    return "\n".join(parts)


def _row(use: ErrorUse, exit_code: int) -> str:
    cells = (f"`{use.code}`", use.error, str(exit_code), use.message, use.hint)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
