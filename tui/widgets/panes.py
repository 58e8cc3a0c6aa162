"""The two bodies of a screen: a list with a cursor and a page of lines. Both scroll by themselves, without a bar.

They keep rows and positions only; what a row means belongs to the screen.
"""

from __future__ import annotations

from textual import events
from textual.geometry import Offset
from textual.message import Message

from tui.text import Line, Table, lay_out
from tui.widgets.painted import Painted, Rows

_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1}


class Pane(Painted, can_focus=True):
    """What list and page share: an offset, and keys that move."""

    DEFAULT_CSS = "Pane { height: 1fr; }"

    class Moved(Message):
        """The visible part or the cursor changed."""

    def __init__(self, *, id: str, ascii: bool = False) -> None:
        super().__init__(id=id, ascii=ascii)
        self.top = 0

    def move(self, by: int) -> None:
        """Move by so many rows."""
        raise NotImplementedError

    def on_key(self, event: events.Key) -> None:
        """Arrows, j k, g G, paging."""
        if not self.screen.is_active:
            return
        page = max(1, self.size.height - 2)
        jumps = {"pageup": -page, "pagedown": page, "home": -1_000_000, "end": 1_000_000, "g": -1_000_000}
        key = event.character if event.is_printable and event.character else event.key
        step = 1_000_000 if key == "G" else _STEPS.get(key, jumps.get(key, 0))
        if step:
            event.stop()
            event.prevent_default()
            self.move(step)
            self.post_message(self.Moved())

    def on_mouse_scroll_down(self) -> None:
        """Wheel."""
        self.move(3)

    def on_mouse_scroll_up(self) -> None:
        """Wheel."""
        self.move(-3)


class Page(Pane):
    """Lines to read. Where some can be opened, a cursor goes from one to the next, and past them the page scrolls."""

    def __init__(self, *, id: str, ascii: bool = False) -> None:
        super().__init__(id=id, ascii=ascii)
        self._lines: list[Line] = []
        self._stops: tuple[int, ...] = ()
        self._cursor = 0

    def show(self, lines: list[Line], stops: tuple[int, ...] = ()) -> None:
        """Replace the lines; the reader stays where they were. `stops` are the lines that can be opened."""
        self._lines, self._stops = lines, stops
        self._cursor = max(0, min(self._cursor, len(stops) - 1))
        self.move(0)

    @property
    def stop(self) -> int:
        """The line under the cursor, or -1 while none that can be opened is in sight."""
        return self._stops[self._cursor] if self._cursor in self._in_sight() else -1

    def move(self, by: int) -> None:
        """Move the cursor to the next line that can be opened, or scroll."""
        height, wanted = self.size.height, self._cursor + by
        if by in (-1, 1) and self.stop >= 0 and 0 <= wanted < len(self._stops):
            self._cursor = wanted
            at = self._stops[wanted]
            self.top = max(at - height + 1, min(self.top, at))
            by = 0
        self.top = max(0, min(max(0, len(self._lines) - height), self.top + by))
        if (seen := self._in_sight()) and (self._cursor not in seen or abs(by) > height):
            wanted = max(0, min(len(self._stops) - 1, wanted))  # a jump to an end takes the cursor along
            self._cursor = min(seen, key=lambda index: abs(index - wanted))
        stop = self.stop
        self.paint([(line, at == stop) for at, line in enumerate(self._lines[self.top : self.top + height], self.top)])
        if self.has_focus and stop >= 0:
            self.app.cursor_position = self.region.offset + Offset(0, stop - self.top)

    def _in_sight(self) -> list[int]:
        return [i for i, at in enumerate(self._stops) if self.top <= at < self.top + self.size.height]

    def on_resize(self) -> None:
        """Keep the last line in sight."""
        self.move(0)

    @property
    def position(self) -> str:
        """Where the reader is, when there is more than fits."""
        if len(self._lines) <= self.size.height:
            return ""
        return f"lines {self.top + 1}-{min(len(self._lines), self.top + self.size.height)} of {len(self._lines)}"


class Listing(Pane):
    """Rows with a cursor, under a line of titles."""

    class Opened(Message):
        """A row was clicked that had the cursor already."""

    def __init__(self, *, id: str, ascii: bool = False) -> None:
        super().__init__(id=id, ascii=ascii)
        self._table = Table(columns=(), rows=())
        self._empty: list[Line] = []
        self.cursor = 0

    def show(self, table: Table, empty: list[Line]) -> None:
        """Replace the rows; the cursor stays on its thing while it is there. `empty` is said when there is none."""
        key = self.key
        self._table, self._empty = table, empty
        self.cursor = next((i for i, row in enumerate(table.rows) if row.key == key), self.cursor)
        self.move(0)

    def show_text(self, lines: list[Line]) -> None:
        """Say something instead of rows."""
        self.show(Table(columns=(), rows=()), lines)

    @property
    def key(self) -> str:
        """The key of the row under the cursor, or empty."""
        rows = self._table.rows
        return rows[self.cursor].key if self.cursor < len(rows) else ""

    @property
    def position(self) -> str:
        """Which row of how many."""
        return f"{self.cursor + 1} of {len(self._table.rows)}" if self._table.rows else ""

    def move(self, by: int) -> None:
        """Move the cursor and keep it in sight."""
        count, room = len(self._table.rows), max(1, self.size.height - 1)
        self.cursor = max(0, min(count - 1, self.cursor + by))
        self.top = max(self.cursor - room + 1, min(self.top, self.cursor, max(0, count - room)))
        self.paint(self.lines_now())
        self._follow()

    def on_resize(self) -> None:
        """Lay the columns out again."""
        self.move(0)

    def on_click(self, event: events.Click) -> None:
        """First click moves the cursor, the second opens."""
        row = self.top + event.y - 1
        if row == self.cursor:
            self.post_message(self.Opened())
        elif 0 <= row < len(self._table.rows):
            self.move(row - self.cursor)
            self.post_message(self.Moved())

    def watch_has_focus(self, focused: bool) -> None:
        """Bring the hardware cursor back."""
        super().watch_has_focus(focused)
        self._follow()

    def lines_now(self) -> Rows:
        """What ought to be on the screen."""
        if not self._table.rows:
            return [(line, False) for line in self._empty]
        title, rows = lay_out(self._table, self.size.width)
        visible = rows[self.top : self.top + max(1, self.size.height - 1)]
        return [(title, False), *((row, self.top + i == self.cursor) for i, row in enumerate(visible))]

    def _follow(self) -> None:
        """Put the terminal's own cursor on the row: screen readers and braille displays follow it."""
        if self.has_focus:
            self.app.cursor_position = self.region.offset + Offset(0, 1 + self.cursor - self.top)
