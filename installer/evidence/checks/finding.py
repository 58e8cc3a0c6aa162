"""What a check found, and how a value is compared with what is expected of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from installer.evidence.control import Expectation

_LONGEST = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The value that was seen beside the one that is asked for, and how to see it oneself."""

    ok: bool
    observed: str
    expected: str
    source: str


def finding(*, ok: bool, observed: str, expected: str, source: str | Sequence[str]) -> Finding:
    """Build a finding; long values are cut, `source` may be an argv."""
    return Finding(
        ok=ok,
        observed=shorten(observed),
        expected=shorten(expected),
        source=source if isinstance(source, str) else shlex.join(source),
    )


def shorten(text: str) -> str:
    """Put a value on one line and cut it."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def listed(items: Iterable[str], *, limit: int = 8) -> str:
    """Name the first items and count the others."""
    found = list(items)
    tail = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + tail


def meets(value: str | None, wanted: Expectation) -> bool:
    """Tell whether a value is what is expected. A value that is not set meets only `absent`."""
    if value is None:
        return wanted.absent
    words = set(re.split(r"[\s,]+", value.strip())) - {""}
    number = int(value) if re.fullmatch(r"-?\d+", value.strip()) else None
    return all(
        (
            wanted.equals is None or value.strip().lower() == wanted.equals.lower(),
            not wanted.one_of or value.strip().lower() in {each.lower() for each in wanted.one_of},
            wanted.at_least is None or (number is not None and number >= wanted.at_least),
            wanted.at_most is None or (number is not None and number <= wanted.at_most),
            set(wanted.includes) <= words,
            not (set(wanted.excludes) & words),
            not wanted.within or words <= set(wanted.within),
        )
    )


def in_words(wanted: Expectation) -> str:
    """Say what is expected, for a person."""
    parts = [
        f"{wanted.equals}" if wanted.equals is not None else "",
        f"one of {', '.join(wanted.one_of)}" if wanted.one_of else "",
        f"at least {wanted.at_least}" if wanted.at_least is not None else "",
        f"at most {wanted.at_most}" if wanted.at_most is not None else "",
        f"with {', '.join(wanted.includes)}" if wanted.includes else "",
        f"without {', '.join(wanted.excludes)}" if wanted.excludes else "",
        f"nothing but {', '.join(wanted.within)}" if wanted.within else "",
    ]
    said = " and ".join(part for part in parts if part) or "set"
    return f"{said}, or not set" if wanted.absent else said
