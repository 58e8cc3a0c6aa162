"""One line of choices: one of them, or any of them. Arrows move, Space marks, and the terminal's cursor follows."""

from __future__ import annotations

from textual import events
from textual.geometry import Offset
from textual.message import Message

from tui import format as fmt
from tui.text import Span, Tone
from tui.widgets.painted import Painted


class Options(Painted, can_focus=True):
    """`chosen` are the marked choices, in the order of `choices`; without `several` it is always one."""

    class Changed(Message):
        """Another choice was marked."""

        def __init__(self, sender: Options) -> None:
            super().__init__()
            self.sender = sender

    class Submitted(Message):
        """Enter."""

    def __init__(
        self, choices: tuple[str, ...], chosen: tuple[str, ...], *, several: bool, id: str, ascii: bool
    ) -> None:
        super().__init__(id=id, ascii=ascii)
        self._choices, self._several = choices, several
        self.chosen = tuple(choice for choice in choices if choice in chosen)
        self._at = choices.index(self.chosen[0]) if self.chosen else 0

    def on_mount(self) -> None:
        """First paint."""
        self._draw()

    def watch_has_focus(self, focused: bool) -> None:
        """Show whether the cursor is here."""
        super().watch_has_focus(focused)
        self._draw()

    def on_key(self, event: events.Key) -> None:
        """Left, right, Space; up and down leave the line."""
        match event.key:
            case "left" | "right":
                self._at = (self._at + (1 if event.key == "right" else -1)) % len(self._choices)
                if not self._several:
                    self._mark()
            case "space":
                if not self._several and self._choices[self._at] in self.chosen:
                    self._at = (self._at + 1) % len(self._choices)
                self._mark()
            case "enter":
                self.post_message(self.Submitted())
            case "up":
                self.screen.focus_previous()
            case "down":
                self.screen.focus_next()
            case _:
                return
        event.stop()
        self._draw()

    def on_click(self, event: events.Click) -> None:
        """Mark what was clicked."""
        end = 0
        for index, choice in enumerate(self._choices):
            start, end = end, end + fmt.cells(choice) + 6
            if start <= event.x < end:
                self._at = index
                self._mark()
                self._draw()

    def _mark(self) -> None:
        here = self._choices[self._at]
        wanted = {here} if not self._several else set(self.chosen) ^ {here}
        self.chosen = tuple(choice for choice in self._choices if choice in wanted)
        self.post_message(self.Changed(self))

    def _draw(self) -> None:
        spans: list[Span] = []
        mark, signs = ("x", "[]") if self._several else ("*", "()")
        cursor = 0
        for index, choice in enumerate(self._choices):
            here = index == self._at and self.has_focus
            if index == self._at:
                cursor = sum(fmt.cells(span.text) for span in spans) + 1
            sign = mark if choice in self.chosen else " "
            spans.append(Span(f"{signs[0]}{sign}{signs[1]} {choice}", Tone.STRONG if here else Tone.PLAIN))
            spans.append(Span("  "))
        self.paint([(tuple(spans), False)])
        if self.has_focus:
            self.app.cursor_position = self.region.offset + Offset(cursor, 0)
