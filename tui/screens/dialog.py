"""The dialog that asks before a deed.

What would come of the answers is shown as they are filled in, and what is wrong with one stands below it.

Danger 1 has its own button under the cursor, so one Enter does it; from danger 2 on Back is under the cursor; at
danger 3 the object's name has to be typed first. The equivalent CLI line is shown as the answers are filled in.
"""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from appliance.kernel.errors import IntramurosError
from tui import format as fmt
from tui.deed import Action, Answers, Field, Question, Target, in_one_line
from tui.screens.tell import WIDTH
from tui.screens.work import start
from tui.session import Session
from tui.text import Line, Span, Tone, line
from tui.widgets.buttons import Buttons
from tui.widgets.entry import Entry
from tui.widgets.note import Note
from tui.widgets.painted import Painted


class AskFirst(ModalScreen[dict[str, str] | None]):
    """Ask for the answers of a deed and for consent. Returns the answers, or None."""

    AUTO_FOCUS = ""

    def __init__(
        self,
        action: Action,
        question: Question,
        target: Target,
        session: Session,
        *,
        ascii: bool,
        given: Answers | None = None,
        fault: tuple[str, str] = ("", ""),
    ) -> None:
        """`given` are answers of an earlier time that were refused, `fault` the field and the reason."""
        super().__init__()
        self._action, self._asked, self._target, self._session, self._ascii = action, question, target, session, ascii
        self._given, self._fault = given or {}, fault
        self.set_class(ascii, "-plain")

    def compose(self) -> ComposeResult:
        """Consequences, fields, CLI line, buttons."""
        with Vertical(classes="box"):
            yield Note(id="what", ascii=self._ascii)
            for field in self._asked.fields:
                value = self._given.get(field.name, field.default(self._target))
                yield from self._row(field.name, field.label, fmt.clean(value))
                yield self._empty(f"fault-{field.name}")
            if self._action.danger == 3:
                yield from self._row("typed", "Type its name to agree", "")
            yield self._empty("preview")
            yield Note(id="cli", ascii=self._ascii)
            label = self._action.label.capitalize()
            yield Buttons(("Back", label), chosen=0 if self._action.danger >= 2 else 1, ascii=self._ascii)

    def on_mount(self) -> None:
        """Focus the first thing to fill in, and look up the choices."""
        entries = self.query(Entry)
        self.set_focus(entries.first(Entry) if entries else self.query_one(Buttons))
        self._tell()
        self._blame(*self._fault)
        start(self, "choices", self._look_up)
        self._look_ahead()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Keep the CLI line and the preview true."""
        self._tell()
        name = (message.input.id or "").removeprefix("field-")
        if message.value != self._given.get(name):
            self._blame(name, "")
        self._look_ahead()

    def _entered(self) -> None:
        """Enter goes to the next field, then to the buttons; a question without danger needs no button."""
        last = list(self.query(Entry))[-1]
        if self._action.danger == 0 and self.focused is last:
            self._agree()
        else:
            self.focus_next()

    def on_buttons_pressed(self, message: Buttons.Pressed) -> None:
        """Go back, or agree if everything needed is filled in."""
        if message.index == 0:
            self.dismiss(None)
        else:
            self._agree()

    def on_key(self, event: events.Key) -> None:
        """Esc cancels; up and down move between buttons and fields."""
        if event.key in ("escape", "ctrl+c"):
            event.stop()
            self.dismiss(None)
        elif event.key in ("up", "down"):
            event.stop()
            (self.focus_previous if event.key == "up" else self.focus_next)()

    def _agree(self) -> None:
        missing = self._missing()
        if missing:
            self._tell(missing)
        else:
            self.dismiss(self._answers())

    def _empty(self, id: str) -> Note:
        note = Note(id=id, ascii=self._ascii)
        note.tell([])
        return note

    def _row(self, name: str, label: str, value: str) -> ComposeResult:
        with Horizontal(classes="row"):
            text = Painted(ascii=self._ascii)
            text.add_class("name")
            text.paint([((Span(fmt.fit(label, 23)),), False)])
            yield text
            yield Entry(name, value, entered=self._entered)
            choice = Painted(id=f"choice-{name}", ascii=self._ascii)
            choice.add_class("choice")
            yield choice

    def _look_ahead(self) -> None:
        if self._asked.preview is not None:
            start(self, "preview", self._preview)

    async def _preview(self) -> None:
        if self._asked.preview is None:
            return
        lines: tuple[Line, ...] = ()
        try:
            lines = await self._asked.preview(self._session, self._answers())
        except IntramurosError as error:
            self._blame(self._asked.at_fault(error), in_one_line(error))
        self.query_one("#preview", Note).tell([(), *lines] if lines else [])

    def _blame(self, name: str, problem: str) -> None:
        """Say below a field what is wrong with it; an empty problem takes that back."""
        if name and name != "typed":
            told = [line(Span(f"  {part}", Tone.WARN)) for part in fmt.wrap(problem, WIDTH - 2) if problem]
            self.query_one(f"#fault-{name}", Note).tell(told)

    async def _look_up(self) -> None:
        for field in self._asked.fields:
            if field.choices is None:
                continue
            try:
                choices = await field.choices(self._session)
            except IntramurosError as error:
                self._tell(f"{error.code}: {error.message}")
                continue
            self._offer(field, choices)

    def _offer(self, field: Field, choices: tuple[str, ...]) -> None:
        entry = self.query_one(f"#field-{field.name}", Entry)
        entry.choices = choices
        if not entry.value and choices and field.required:
            entry.value = choices[0]
            entry.cursor_position = len(entry.value)
        if len(choices) > 1:
            note = self.query_one(f"#choice-{field.name}", Painted)
            note.paint([((Span(f"  Up/Down: {len(choices)}", Tone.FAINT),), False)])

    def _answers(self) -> dict[str, str]:
        given = {entry.id.removeprefix("field-"): entry.value.strip() for entry in self.query(Entry) if entry.id}
        given.pop("typed", None)
        return given

    def _missing(self) -> str:
        answers = self._answers()
        for field in self._asked.fields:
            if field.required and not answers[field.name]:
                return f"{field.label} is needed."
        if refused := self._asked.refused(answers):
            return refused
        if self._action.danger == 3 and self.query_one("#field-typed", Entry).value.strip() != self._target.name:
            return f"Type {self._target.name} to agree, or press Esc."
        return ""

    def _tell(self, problem: str = "") -> None:
        answers: Answers = self._answers()
        about = f" {fmt.clean(self._target.name)}" if self._target.name and self._asked.needs_target else ""
        what = [line(Span(f"{self._action.label.capitalize()}{about}", Tone.HEAD)), ()]
        for sentence in self._asked.consequences:
            filled = self._asked.fill(sentence, self._target, answers)
            what += [line(part) for part in fmt.wrap(filled, WIDTH)]
        self.query_one("#what", Note).tell([*what, ()] if self._asked.consequences else what)
        command = self._asked.command(self._target, answers)
        cli: list[Line] = [(), line(Span("The same from a shell:", Tone.FAINT))]
        cli += [line(f"  {part}") for part in fmt.wrap(command, WIDTH - 2)]
        cli += [line(Span(part, Tone.WARN)) for part in fmt.wrap(problem, WIDTH)]
        self.query_one("#cli", Note).tell(cli)
