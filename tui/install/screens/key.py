"""The recovery key: shown, then hidden, then two of its groups are typed back. Only then does the run begin."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from tui import format as fmt
from tui.install.confirm import TypedBack
from tui.install.screens.entry import TypedEntry
from tui.install.screens.stage import Stage
from tui.install.threads import in_thread
from tui.install.visit import RUN
from tui.install.words import key_lines
from tui.text import Line, Span, Tone, line
from tui.widgets.note import Note
from tui.widgets.painted import Painted

_LABEL = 16


class KeyStage(Stage):
    """One screen that shows the key, and the same one without it that asks."""

    DEFAULT_CSS = f"""
    KeyStage #body {{ height: 1fr; }}
    KeyStage Horizontal {{ height: 1; display: none; }}
    KeyStage.-asks Horizontal {{ display: block; }}
    KeyStage .name {{ width: {_LABEL}; }}
    KeyStage Input {{ width: 1fr; height: 1; border: none; padding: 0; background: $background;
        text-style: underline; }}
    """
    AUTO_FOCUS = ""
    keys_of = "key"
    title_text = "Recovery key"

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key
        self._typed: TypedBack | None = None

    def body(self) -> ComposeResult:
        """The key, and two fields that are hidden at first."""
        with Vertical(id="body"):
            yield Note(id="shown", ascii=self.wizard.plain)
            for number in (0, 1):
                with Horizontal():
                    name = Painted(id=f"name-{number}", ascii=self.wizard.plain)
                    name.add_class("name")
                    yield name
                    yield TypedEntry("", id=f"field-group-{number}")

    def refocus(self) -> None:
        """Back to the first field, when it is asked for."""
        if self._typed:
            self.set_focus(self.query_one("#field-group-0", TypedEntry))

    def show(self) -> None:
        """Either the key, or the questions."""
        shown: list[Line]
        if self._typed is None:
            shown = [*key_lines(self._key, self.look), (), line("   Enter when it is written down; then it is hidden.")]
        else:
            told = "Type these groups from what you wrote down. Esc shows the key again."
            shown = [(), line(f"   {told}"), ()]
            for number, group in enumerate(self._typed.groups):
                name = self.query_one(f"#name-{number}", Painted)
                name.paint([((Span(f"   {fmt.fit(f'group {group}', _LABEL - 4)} "),), False)])
        self.query_one("#shown", Note).tell(shown)

    def act(self, name: str) -> None:
        """Hide the key, next field, compare."""
        match name:
            case "on" if self._typed is None:
                self._typed = TypedBack(self._key, self.wizard.choose)
                self._ask()
            case "on" if self.focused and self.focused.id == "field-group-0":
                self.set_focus(self.query_one("#field-group-1", TypedEntry))
            case "on":
                self._compare(self._typed)
            case "back" if self._typed is not None:
                self._typed = None
                self.set_focus(None)
                self.set_class(False, "-asks")
                self.repaint()
            case _:
                super().act(name)

    def _ask(self) -> None:
        self.set_class(True, "-asks")
        for entry in self.query(TypedEntry):
            entry.value = ""
        self.repaint()
        self.refocus()

    def _compare(self, typed: TypedBack | None) -> None:
        first, second = (self.query_one(f"#field-group-{number}", TypedEntry).value for number in (0, 1))
        if typed is not None and typed.right(first, second):
            self.work("begin", self._begin)
            return
        self._ask()
        self.say("That is not what the key says. These two, please.", Tone.BAD)

    async def _begin(self) -> None:
        visit = self.visit
        await in_thread(lambda: visit.backend.lay_recovery_key(self._key))
        visit.recovery_key = None
        await in_thread(visit.begin)
        self.wizard.go(RUN)
