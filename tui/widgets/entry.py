"""One line to type into, with choices under the arrow keys where there are some."""

from __future__ import annotations

from textual import events
from textual.widgets import Input


class Entry(Input):
    """One field; arrows up and down walk through its choices, where it has some."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(value, id=f"field-{field}", compact=True, select_on_focus=False)
        self.cursor_blink = False
        self.choices: tuple[str, ...] = ()

    def on_key(self, event: events.Key) -> None:
        """Up and down choose, or move between fields where there is nothing to choose."""
        if event.key not in ("up", "down"):
            return
        event.stop()
        step = 1 if event.key == "down" else -1
        if not self.choices:
            (self.screen.focus_next if step > 0 else self.screen.focus_previous)()
            return
        here = self.choices.index(self.value) if self.value in self.choices else -step
        self.value = self.choices[(here + step) % len(self.choices)]
        self.cursor_position = len(self.value)
