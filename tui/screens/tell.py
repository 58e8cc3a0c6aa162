"""The dialog that says something at length, or asks a plain question whose default is no."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen

from tui import format as fmt
from tui.text import Span, Tone, line
from tui.widgets.buttons import Buttons
from tui.widgets.note import Note

WIDTH = 72
"""Cells of text in a dialog."""


class Tell(ModalScreen[bool]):
    """Say something at length; with `agree`, ask a plain question whose default is no. Returns the consent."""

    def __init__(self, title: str, paragraphs: tuple[str, ...], *, agree: str = "", ascii: bool) -> None:
        super().__init__()
        self._title, self._paragraphs, self._agree, self._ascii = title, paragraphs, agree, ascii
        self.set_class(ascii, "-plain")

    def compose(self) -> ComposeResult:
        """Text and buttons."""
        with Vertical(classes="box"):
            yield Note(id="what", ascii=self._ascii)
            yield Buttons(("Stay", self._agree) if self._agree else ("Close",), chosen=0, ascii=self._ascii)

    def on_mount(self) -> None:
        """Wrap the text."""
        lines = [line(Span(self._title, Tone.HEAD)), ()]
        for paragraph in self._paragraphs:
            lines += [line(part) for part in fmt.wrap(paragraph, WIDTH)]
        self.query_one("#what", Note).tell([*lines, ()])

    def on_buttons_pressed(self, message: Buttons.Pressed) -> None:
        """Any button closes."""
        self.dismiss(message.index == 1)

    def on_key(self, event: events.Key) -> None:
        """Esc and q close, and mean no."""
        if event.key in ("escape", "q", "ctrl+c"):
            event.stop()
            self.dismiss(False)
