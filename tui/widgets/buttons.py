"""A line of buttons for the dialogs: one focus stop, arrows and Tab choose, Enter presses."""

from __future__ import annotations

from textual import events
from textual.message import Message

from tui.text import Span, Tone
from tui.widgets.painted import Painted


class Buttons(Painted, can_focus=True):
    """`labels` from left to right; `chosen` is where the cursor begins."""

    class Pressed(Message):
        """A button was pressed; `index` counts from 0."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, labels: tuple[str, ...], *, chosen: int, ascii: bool) -> None:
        super().__init__(id="buttons", ascii=ascii)
        self._labels = labels
        self.chosen = chosen

    def on_mount(self) -> None:
        """First paint."""
        self._draw()

    def watch_has_focus(self, focused: bool) -> None:
        """Show whether the cursor is here. The Focus event comes before `has_focus` is true."""
        super().watch_has_focus(focused)
        self._draw()

    def on_key(self, event: events.Key) -> None:
        """Left, right, Enter; Tab too, until there is no button left on that side."""
        step = {"left": -1, "right": 1, "shift+tab": -1, "tab": 1}.get(event.key, 0)
        if event.key in ("left", "right") or (step and 0 <= self.chosen + step < len(self._labels)):
            self.chosen = (self.chosen + step) % len(self._labels)
            self._draw()
        elif event.key == "enter":
            self.post_message(self.Pressed(self.chosen))
        else:
            return
        event.stop()

    def on_click(self, event: events.Click) -> None:
        """Press what was clicked."""
        end = 2
        for index, label in enumerate(self._labels):
            start, end = end, end + len(label) + 6
            if start <= event.x < end:
                self.post_message(self.Pressed(index))

    def _draw(self) -> None:
        spans = [Span("  ")]
        for index, label in enumerate(self._labels):
            here = index == self.chosen and self.has_focus
            spans.append(Span(f">[ {label} ]<" if here else f" [ {label} ] ", Tone.STRONG if here else Tone.PLAIN))
        self.paint([(tuple(spans), False)])
