"""The one place where toned lines become terminal cells: every text of the console passes here.

Outside text arrives cleaned (`tui.format.clean`); here it is also turned to ASCII where the terminal asks for it.
No markup is ever interpreted.
"""

from __future__ import annotations

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui import format as fmt
from tui.text import Line, Span, Tone

Rows = list[tuple[Line, bool]]
"""Lines from the top, and whether each is in reverse video."""

_REVERSE = Style(reverse=True)


class Painted(Widget):
    """A widget that shows lines; only lines that changed are sent again."""

    COMPONENT_CLASSES = {f"tone--{tone}" for tone in Tone}  # noqa: RUF012 - Textual reads it from the class
    DEFAULT_CSS = """
    Painted { height: 1; width: 1fr; }
    Painted > .tone--faint { color: $tone-faint; }
    Painted > .tone--good { color: $tone-good; }
    Painted > .tone--warn { color: $tone-warn; text-style: bold; }
    Painted > .tone--bad { color: $tone-bad; text-style: bold; }
    Painted > .tone--strong { text-style: bold; }
    Painted > .tone--head { color: $tone-head; text-style: bold; }
    """

    def __init__(self, *, id: str | None = None, ascii: bool = False) -> None:
        super().__init__(id=id)
        self.ascii = ascii
        self._shown: Rows = []

    def paint(self, lines: Rows) -> None:
        """Show these lines from the top; True means reverse video."""
        changed = self.changed_rows(lines)
        self._shown = lines
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def changed_rows(self, lines: Rows) -> list[int]:
        """Which rows would have to be sent to show these lines."""
        count = max(len(self._shown), len(lines))
        return [y for y in range(count) if self._shown[y : y + 1] != lines[y : y + 1]]

    def render_line(self, y: int) -> Strip:
        """Turn one line into cells, cut or padded to the widget's width."""
        width, base = self.size.width, self.rich_style
        spans, reverse = self._shown[y] if y < len(self._shown) else ((), False)
        segments = []
        for span in spans:
            text = fmt.to_ascii(span.text) if self.ascii else span.text
            style = _bare(self.get_component_rich_style(f"tone--{span.tone}"))
            segments.append(Segment(text, style + _REVERSE if reverse else style))
        rest = _bare(base)
        return Strip(segments).adjust_cell_length(width, rest + _REVERSE if reverse else rest).simplify()


@lru_cache(256)
def _bare(style: Style) -> Style:
    """Drop the terminal's own colours: saying them again costs eight bytes at each change of style."""
    colours = [None if colour is None or colour.is_default else colour for colour in (style.color, style.bgcolor)]
    return Style(
        color=colours[0],
        bgcolor=colours[1],
        bold=style.bold,
        dim=style.dim,
        italic=style.italic,
        underline=style.underline,
        reverse=style.reverse,
    )


class Bar(Painted):
    """One line: the top line, the title, the key bar."""

    def __init__(self, *, id: str, ascii: bool = False, reverse: bool = False) -> None:
        super().__init__(id=id, ascii=ascii)
        self._reverse = reverse

    def say(self, left: Line, right: Line = ()) -> None:
        """Show a text at the left and one at the right end; the left one is cut first."""
        width = self.size.width or 80
        taken = sum(fmt.cells(span.text) for span in right)
        self.paint([((*cut(left, max(0, width - taken)), *right), self._reverse)])


def cut(spans: Line, width: int) -> Line:
    """Cut or pad a line to exactly `width` cells."""
    kept: list[Span] = []
    left = width
    for span in spans:
        taken = fmt.cells(span.text)
        if taken > left:
            kept.append(Span(fmt.fit(span.text, left), span.tone))
            left = 0
            break
        kept.append(span)
        left -= taken
    return (*kept, Span(" " * left)) if left else tuple(kept)
