"""One line to type into, with choices under the arrow keys where there are some.

What is typed fast arrives in its order: Textual lets editing keys and Enter bubble up to the application first, and a
letter that follows overtakes them. Here every key is done at once, and one that the focus ran ahead of is sent again.
"""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.widgets import Input

_EDITING: dict[str, Callable[[Input], None]] = {
    "backspace": Input.action_delete_left,
    "delete": Input.action_delete_right,
    "ctrl+d": Input.action_delete_right,
    "ctrl+u": Input.action_delete_left_all,
    "ctrl+k": Input.action_delete_right_all,
    "ctrl+w": Input.action_delete_left_word,
    "left": Input.action_cursor_left,
    "right": Input.action_cursor_right,
    "home": Input.action_home,
    "ctrl+a": Input.action_home,
    "end": Input.action_end,
    "ctrl+e": Input.action_end,
}


class Entry(Input):
    """One field; arrows up and down walk through its choices, where it has some. `entered` is called on Enter."""

    def __init__(self, field: str, value: str, *, entered: Callable[[], None] | None = None) -> None:
        super().__init__(value, id=f"field-{field}", compact=True, select_on_focus=False)
        self.cursor_blink = False
        self.choices: tuple[str, ...] = ()
        self._entered = entered

    def on_key(self, event: events.Key) -> None:
        """Edit, choose, or move between fields."""
        if self.screen.focused is not self:
            self.app.post_message(events.Key(event.key, event.character))
        elif event.key in _EDITING:
            _EDITING[event.key](self)
        elif event.key == "tab" or (event.key == "down" and not self.choices):
            self.screen.focus_next()
        elif event.key == "shift+tab" or (event.key == "up" and not self.choices):
            self.screen.focus_previous()
        elif event.key in ("up", "down"):
            self._choose(1 if event.key == "down" else -1)
        elif event.key == "enter" and self._entered is not None:
            self._entered()
        else:
            return
        event.stop()
        event.prevent_default()

    def _choose(self, step: int) -> None:
        here = self.choices.index(self.value) if self.value in self.choices else -step
        self.value = self.choices[(here + step) % len(self.choices)]
        self.cursor_position = len(self.value)
