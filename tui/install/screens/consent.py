"""The last question before anything changes. Back is chosen first; what is destroyed has to be named by typing it."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen

from tui import format as fmt
from tui.install.screens.entry import TypedEntry
from tui.screens.tell import WIDTH
from tui.text import Span, Tone, line
from tui.widgets.buttons import Buttons
from tui.widgets.note import Note
from tui.widgets.painted import Painted


class Consent(ModalScreen[bool]):
    """Returns whether the person agrees."""

    AUTO_FOCUS = ""

    def __init__(self, consequences: tuple[str, ...], command: str, *, wiped: str, ascii: bool) -> None:
        super().__init__()
        self._consequences, self._command, self._wiped, self._ascii = consequences, command, wiped, ascii
        self.set_class(ascii, "-plain")

    def compose(self) -> ComposeResult:
        """Consequences, the device's name, the CLI line, buttons."""
        with Vertical(classes="box"):
            yield Note(id="what", ascii=self._ascii)
            if self._wiped:
                with Horizontal(classes="row"):
                    name = Painted(ascii=self._ascii)
                    name.add_class("name")
                    name.paint([((Span("Type the device to agree"),), False)])
                    yield name
                    yield TypedEntry("", id="field-wiped")
            yield Note(id="cli", ascii=self._ascii)
            yield Buttons(("Back", "Install"), chosen=0, ascii=self._ascii)

    def on_mount(self) -> None:
        """The first thing to do has the cursor."""
        what = [line(Span("Install", Tone.HEAD)), ()]
        if self._wiped:
            told = f"Everything on {self._wiped} is destroyed."
            what += [line(Span(part, Tone.WARN)) for part in fmt.wrap(told, WIDTH)]
        for sentence in self._consequences:
            what += [line(part) for part in fmt.wrap(sentence, WIDTH)]
        self.query_one("#what", Note).tell([*what, ()])
        self._tell("")
        self.set_focus(self.query_one(TypedEntry) if self._wiped else self.query_one(Buttons))

    def on_input_submitted(self) -> None:
        """Enter goes to the buttons."""
        self.set_focus(self.query_one(Buttons))

    def on_buttons_pressed(self, message: Buttons.Pressed) -> None:
        """Back, or agree if the device was named."""
        if message.index == 0:
            self.dismiss(False)
        elif self._wiped and self.query_one(TypedEntry).value.strip() != self._wiped:
            self._tell(f"Type {self._wiped} to agree, or press Esc.")
            self.set_focus(self.query_one(TypedEntry))
        else:
            self.dismiss(True)

    def on_key(self, event: events.Key) -> None:
        """Esc means no; up and down move."""
        if event.key in ("escape", "ctrl+c"):
            event.stop()
            self.dismiss(False)
        elif event.key in ("up", "down"):
            event.stop()
            (self.focus_previous if event.key == "up" else self.focus_next)()

    def _tell(self, problem: str) -> None:
        cli = [(), line(Span("The same from a shell:", Tone.FAINT))]
        cli += [line(f"  {part}") for part in fmt.wrap(self._command, WIDTH - 2)]
        cli += [line(Span(part, Tone.WARN)) for part in fmt.wrap(problem, WIDTH)] if problem else [()]
        self.query_one("#cli", Note).tell(cli)
