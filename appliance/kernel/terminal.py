"""Text of files, models and people, made harmless for a terminal.

Invariant: what is printed moves no cursor, sets no title and shows its characters in the order they were written.
Line breaks and tabs stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Replace control characters and direction overrides by U+FFFD."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> str:
    """Lay out rows in columns; `empty` is what to say when there are none."""
    listed = [tuple(str(cell) for cell in row) for row in rows]
    if not listed:
        return empty
    widths = [max(len(head[i]), *(len(row[i]) for row in listed)) for i in range(len(head))]
    lines = [head, *listed]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def counted(number: int, noun: str) -> str:
    """Return `1 event`, `1,204 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_text(size: int) -> str:
    """Return bytes in the largest fitting binary unit."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""


def when(text: str) -> str:
    """Return a time without its fraction."""
    return text[:19].replace("T", " ") if text else "-"
