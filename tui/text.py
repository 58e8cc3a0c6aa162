"""Lines of toned text and tables of cells: what a view says, before any terminal knows of it.

A tone is a meaning (good, warn, bad), never a colour; themes turn it into one. Nothing here knows Textual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from tui import format as fmt


class Tone(StrEnum):
    """What a piece of text means."""

    PLAIN = "plain"
    FAINT = "faint"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    STRONG = "strong"
    HEAD = "head"


class Span(NamedTuple):
    """A run of text of one tone."""

    text: str
    tone: Tone = Tone.PLAIN


Line = tuple[Span, ...]
"""One line of a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a view may know of its reader: room, characters, the present instant, and that it is read aloud."""

    width: int
    height: int
    now: datetime
    ascii: bool = False
    spoken: bool = False
    """line mode: no charts, no bars, no glyph columns"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of `width` cells; 0 takes what is left. `wide` ones appear from 110 columns on."""

    title: str
    width: int = 0
    right: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing of a list: the key that opens it, and its cells."""

    key: str
    cells: Line
    marked: bool = False
    branch: str = ""
    """what hangs it under the row above, before its widest cell"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A list as a view describes it."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


WIDE = 110


def line(*parts: str | Span) -> Line:
    """Make a line of strings and spans."""
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def heading(text: str) -> Line:
    """Make a section title."""
    return (Span(f" {text}", Tone.HEAD),)


def fact(name: str, *value: str | Span) -> Line:
    """Make a `name  value` line. Names take 12 cells, so that a digest still fits in 80."""
    return (Span(f"   {fmt.fit(name, 12)} ", Tone.FAINT), *line(*value))


def facts(name: str, text: str, look: Look, tone: Tone = Tone.PLAIN) -> list[Line]:
    """Make a fact of outside text, with as many lines as it takes; none for an empty text."""
    parts = fmt.wrap(text, max(20, look.width - 20)) if text else []
    return [fact("" if i else name, Span(part, tone)) for i, part in enumerate(parts)]


def hint(text: str) -> Line:
    """Make an indented line that says what to do next."""
    return (Span(f"   {text}", Tone.FAINT),)


def plain(spans: Line) -> str:
    """Return the bare text of a line."""
    return "".join(span.text for span in spans)


def state(name: str, look: Look) -> Span:
    """Say a state as glyph and word, eight cells at most: `+ OK`."""
    word = fmt.word_of(name)
    tone = {"OK": Tone.GOOD, "RUN": Tone.GOOD, "WARN": Tone.WARN, "FAIL": Tone.BAD}.get(word, Tone.PLAIN)
    return Span(word if look.spoken else f"{fmt.glyph(word, ascii=look.ascii)} {word:<4}", tone)


def lay_out(table: Table, width: int) -> tuple[Line, tuple[Line, ...]]:
    """Return the title line and one line for each row, padded to `width` cells."""
    shown = [i for i, column in enumerate(table.columns) if width >= WIDE or not column.wide]
    columns = [table.columns[i] for i in shown]
    fixed = sum(column.width for column in columns) + 2 * (len(columns) - 1) + 2
    flexible = sum(1 for column in columns if column.width == 0)
    room = max(8, (width - fixed) // flexible) if flexible else 0
    widths = [column.width or room for column in columns]

    def one(cells: list[Span], *, marked: bool = False, branch: str = "") -> Line:
        spans = [Span("*" if marked else " ")]
        for index, (cell, column) in enumerate(zip(cells, columns, strict=True)):
            hung = "" if column.width else branch
            spans.append(Span(("  " if index else "") + hung, Tone.FAINT if hung else Tone.PLAIN))
            spans.append(Span(fmt.fit(cell.text, widths[index] - len(hung), right=column.right), cell.tone))
        return tuple(spans)

    title = one([Span(column.title, Tone.HEAD) for column in columns])
    return title, tuple(one([row.cells[i] for i in shown], marked=row.marked, branch=row.branch) for row in table.rows)
