"""The palette: type a part of an action's name, arrows choose, Enter does it."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from tui import format as fmt
from tui.actions import at, key_name
from tui.deed import Action
from tui.text import Line, Span, Tone, line
from tui.widgets.painted import Painted

_ROWS = 14


class Palette(ModalScreen[Action | None]):
    """Every action of a place, by name. Returns the chosen one."""

    AUTO_FOCUS = "Input"

    def __init__(self, place: str, refused: dict[str, str], *, ascii: bool) -> None:
        super().__init__()
        self._refused, self._ascii = refused, ascii
        self._actions = [action for action in at(place) if action.id not in ("move", "palette")]
        self._found = self._actions
        self._chosen = 0
        self.set_class(ascii, "-plain")

    def compose(self) -> ComposeResult:
        """An input and the matches."""
        with Vertical(classes="box"):
            entry = Input(placeholder="part of a name", compact=True)
            entry.cursor_blink = False
            yield entry
            yield Painted(id="found", ascii=self._ascii)

    def on_mount(self) -> None:
        """Show everything first."""
        self._draw()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Narrow down."""
        wanted = message.value.lower().strip()
        self._found = [a for a in self._actions if wanted in f"{a.label} {a.help} {a.id}".lower()]
        self._chosen = 0
        self._draw()

    def on_input_submitted(self) -> None:
        """Do the chosen one."""
        self.dismiss(self._found[self._chosen] if self._found else None)

    def on_key(self, event: events.Key) -> None:
        """Arrows choose, Esc leaves."""
        if event.key in ("escape", "ctrl+c"):
            self.dismiss(None)
        elif event.key in ("up", "down") and self._found:
            self._chosen = (self._chosen + (1 if event.key == "down" else -1)) % len(self._found)
            self._draw()
        else:
            return
        event.stop()

    def _draw(self) -> None:
        first = max(0, min(self._chosen - _ROWS // 2, len(self._found) - _ROWS))
        shown = self._found[first : first + _ROWS]
        rows = [(self._row(action), first + i == self._chosen) for i, action in enumerate(shown)]
        self.query_one("#found", Painted).paint(rows or [(line(Span("Nothing has that name.", Tone.FAINT)), False)])

    def _row(self, action: Action) -> Line:
        reason = self._refused.get(action.id, "")
        told = f"({reason})" if reason else action.help
        return line(f"{fmt.fit(key_name(action.keys[0]), 7)}{fmt.fit(action.label, 14)}", Span(told, Tone.FAINT))
