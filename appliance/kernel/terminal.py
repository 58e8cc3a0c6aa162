"""Text of files, models and people, made harmless for a terminal.

Invariant: what is printed moves no cursor, sets no title and shows its characters in the order they were written.
Line breaks and tabs stay.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Replace control characters and direction overrides by U+FFFD."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)
