"""One line to type into on a page of questions: takes long and dirty pastes, and moves with the arrows."""

from __future__ import annotations

import re

from textual import events
from textual.message import Message

from tui.widgets.entry import Entry

MOST = 4096
"""Characters one answer may have; an RSA key of 16,384 bits has 2,800."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


class TypedEntry(Entry):
    """An answer."""

    class Pasted(Message):
        """Several lines were pasted, cleaned and without empty ones."""

        def __init__(self, entry: TypedEntry, lines: list[str]) -> None:
            super().__init__()
            self.entry, self.lines = entry, lines

    def __init__(self, value: str, *, id: str, password: bool = False) -> None:
        super().__init__(id.removeprefix("field-"), value)
        self.password = password
        self.max_length = MOST

    def _on_paste(self, event: events.Paste) -> None:
        """Control characters and marks that nobody sees are dropped; several lines are the page's business."""
        event.stop()
        event.prevent_default()
        lines = [cleaned for text in event.text[: MOST * 4].splitlines() if (cleaned := seen(text).strip())]
        if len(lines) > 1 and not self.password:
            self.post_message(self.Pasted(self, lines))
        elif lines:
            self.put(lines[0])

    def put(self, text: str) -> None:
        """Insert as much as there is room for: the field itself would refuse all of it."""
        self.insert_text_at_cursor(text[: MOST - len(self.value)])


def seen(text: str) -> str:
    """Drop what cannot be seen; a tab is a blank."""
    return _UNSEEN.sub("", text.replace("\t", " "))
