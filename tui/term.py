"""Which of the four tiers a terminal gets. One pure function of environment, terminal kind and size.

    rich   colours, box lines, mouse           basic  16 colours, ASCII, few bytes (serial lines, text consoles)
    mono   no colour at all, reverse and bold  line   numbered menu with print and input

Textual does not degrade by itself (a dumb terminal gets true colour), so this decides before it is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from appliance.kernel.errors import BadInput

FULL_SIZE = (80, 24)
"""Columns and rows every screen is made for."""
LEAST_SIZE = (40, 12)
"""Below this the full screen is not even started."""

_PLAIN_TERMS = re.compile(r"^(linux|ansi|cons\d+|vt\d+|pcansi|xterm-old)", re.ASCII)
_SERIAL = re.compile(r"^/dev/(ttyS|ttyAMA|ttyUSB|hvc|ttysclp|xvc)\d*", re.ASCII)


class Tier(StrEnum):
    """How much a terminal is trusted with."""

    RICH = "rich"
    BASIC = "basic"
    MONO = "mono"
    LINE = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """The facts the choice is made from. `columns` and `rows` are 0 when the line reports no size."""

    environ: Mapping[str, str]
    interactive: bool
    """standard input, output and error are all terminals"""
    device: str = ""
    columns: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The tier, whether only ASCII may be sent, and why, in words."""

    tier: Tier
    ascii: bool
    why: str


def choose(terminal: Terminal, *, asked: str | None = None, line: bool = False) -> Choice:
    """Pick the tier. `asked` is a tier's name from a flag. Raises BadInput for an unknown name."""
    if asked is not None and asked not in set(Tier):
        raise BadInput("console.tier", f"{asked!r} is no tier.", hint=f"Use one of {', '.join(Tier)}.")
    if line or asked == Tier.LINE:
        return Choice(tier=Tier.LINE, ascii=True, why="asked for")
    cannot = _why_not_full_screen(terminal)
    if cannot:
        return Choice(tier=Tier.LINE, ascii=True, why=cannot)
    plain = _why_plain(terminal)
    if asked == Tier.MONO or (asked is None and "NO_COLOR" in terminal.environ):
        return Choice(tier=Tier.MONO, ascii=bool(plain), why="asked for" if asked else "NO_COLOR is set")
    if asked is not None:
        return Choice(tier=Tier(asked), ascii=asked == Tier.BASIC, why="asked for")
    if plain:
        return Choice(tier=Tier.BASIC, ascii=True, why=plain)
    return Choice(tier=Tier.RICH, ascii=False, why="a capable terminal")


def _why_not_full_screen(terminal: Terminal) -> str:
    term = terminal.environ.get("TERM", "")
    if not terminal.interactive:
        return "not a terminal"
    if term in ("", "dumb", "unknown"):
        return "TERM is dumb or not set"
    if 0 < terminal.columns < LEAST_SIZE[0] or 0 < terminal.rows < LEAST_SIZE[1]:
        return f"smaller than {LEAST_SIZE[0]}x{LEAST_SIZE[1]}"
    return ""


def _why_plain(terminal: Terminal) -> str:
    term = terminal.environ.get("TERM", "")
    if _PLAIN_TERMS.match(term):
        return f"TERM is {term}"
    if _SERIAL.match(terminal.device):
        return f"{terminal.device} is a serial line"
    if not _speaks_utf8(terminal.environ):
        return "the locale is not UTF-8"
    if 0 < terminal.columns < FULL_SIZE[0] or 0 < terminal.rows < FULL_SIZE[1]:
        return f"smaller than {FULL_SIZE[0]}x{FULL_SIZE[1]}"
    return ""


def _speaks_utf8(environ: Mapping[str, str]) -> bool:
    """POSIX precedence: LC_ALL over LC_CTYPE over LANG; the first that is set and not empty decides."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := environ.get(name, ""):
            return value.lower().replace("-", "").endswith("utf8")
    return False
