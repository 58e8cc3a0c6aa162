"""A paragraph as high as its lines."""

from __future__ import annotations

from tui.text import Line
from tui.widgets.painted import Painted


class Note(Painted):
    """A paragraph as high as its lines."""

    DEFAULT_CSS = "Note { height: auto; }"

    def tell(self, lines: list[Line]) -> None:
        """Show these lines."""
        self.styles.height = len(lines)
        self.paint([(spans, False) for spans in lines])
