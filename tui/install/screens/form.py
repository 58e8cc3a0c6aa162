"""One page of questions. What is wrong stands below its question; what a question means stands at the bottom."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget

from appliance.kernel.terminal import counted
from tui import format as fmt
from tui.install.fields import Field, Kind, Section, rows, words
from tui.install.keys import FORM
from tui.install.screens.entry import MOST, TypedEntry
from tui.install.screens.stage import Stage
from tui.text import Line, Span, Tone, line
from tui.widgets.note import Note
from tui.widgets.options import Options
from tui.widgets.painted import Painted

_LABEL = 22
_MOST_ROWS = 16


def _id(key: str, number: int = 0) -> str:
    return f"field-{key.replace('.', '-')}-{number}"


class Question(Vertical):
    """One question: label, what is typed, and what is wrong with it. Rows have a question for each entry."""

    DEFAULT_CSS = f"""
    Question {{ height: auto; }}
    Question > Horizontal {{ height: 1; }}
    Question .name {{ width: {_LABEL}; }}
    Question .wrong {{ display: none; }}
    Question.-wrong > .wrong {{ display: block; height: auto; }}
    Question Input {{ width: 1fr; height: 1; border: none; padding: 0; background: $background;
        text-style: underline; }}
    """

    def __init__(self, field: Field, text: str, *, number: int = 0, ascii: bool) -> None:
        name = _id(field.key, number)
        super().__init__(id=f"question-{name}")
        self.field, self.number, self._ascii = field, number, ascii
        self.control: Options | TypedEntry
        """what has the focus when this question is answered"""
        if field.choices:
            several = field.kind is Kind.SEVERAL
            chosen = tuple(words(text)) if several else (text,)
            self.control = Options(field.choices, chosen, several=several, id=name, ascii=ascii)
        else:
            self.control = TypedEntry(text, id=name)
        self._wrong = Note(ascii=ascii)
        self._wrong.add_class("wrong")

    def compose(self) -> ComposeResult:
        """The label, the control and the line for what is wrong."""
        with Horizontal():
            label = Painted(ascii=self._ascii)
            label.add_class("name")
            numbered = f" {self.number + 1}" if self.field.kind is Kind.ROWS else ""
            label.paint([((Span(f"   {fmt.fit(self.field.label + numbered, _LABEL - 4)} "),), False)])
            yield label
            yield self.control
        yield self._wrong

    @property
    def text(self) -> str:
        """What stands here, as typed."""
        control = self.control
        return ", ".join(control.chosen) if isinstance(control, Options) else control.value

    def complain(self, fault: str, width: int) -> None:
        """Say what is wrong below, or nothing."""
        self.set_class(bool(fault), "-wrong")
        if fault:
            parts = fmt.wrap(f"{fmt.glyph('FAIL', ascii=self._ascii)} {fault}", max(20, width - _LABEL - 1))
            told: list[Line] = [line(" " * _LABEL, Span(part, Tone.BAD)) for part in parts]
            self._wrong.tell(told)


class FormStage(Stage):
    """The questions of one section."""

    DEFAULT_CSS = """
    FormStage #body { height: 1fr; scrollbar-size: 0 0; }
    FormStage #told { height: 4; }
    """
    AUTO_FOCUS = ""
    keys_of = FORM

    def __init__(self, section: Section) -> None:
        super().__init__()
        self.section = section
        self.title_text = section.title

    def body(self) -> ComposeResult:
        """About, the questions, and at the bottom what the present one means."""
        plain = self.wizard.plain
        with VerticalScroll(id="body", can_focus=False):
            about = Note(id="about", ascii=plain)
            about.tell([line(Span(f"   {self.section.about}", Tone.FAINT)), ()])
            yield about
            asked = {field.key for field in self.section.asked(self.visit.texts)}
            for field in self.section.fields:
                text = self.visit.texts.get(field.key, field.default)
                if field.kind is Kind.ROWS:
                    entries = [*rows(text), ""][:_MOST_ROWS]
                    made = [Question(field, row, number=number, ascii=plain) for number, row in enumerate(entries)]
                else:
                    made = [Question(field, text, ascii=plain)]
                for question in made:
                    question.display = field.key in asked
                    yield question
        yield Note(id="told", ascii=plain)

    def on_mount(self) -> None:
        """Go to where the person was, or to the first question."""
        key = self.visit.focus.get(self.section.id, "")
        asked = [question for question in self.query(Question) if question.display]
        wanted = next((question for question in asked if question.field.key == key), asked[0] if asked else None)
        if wanted:
            self.set_focus(wanted.control)

    def refocus(self) -> None:
        """Back to the question that was being answered."""
        if question := self._present():
            self.set_focus(question.control)

    def show(self) -> None:
        """Hide what makes no sense now, say what is wrong, and explain the present question."""
        asked = {field.key for field in self.section.asked(self.visit.texts)}
        last: dict[str, Question] = {}
        for question in self.query(Question):
            question.display = question.field.key in asked
            last[question.field.key] = question
        for question in self.query(Question):
            here = last[question.field.key] is question
            question.complain(self.visit.shown_fault(question.field.key) if here else "", self.look.width)
        self._explain()

    def right(self) -> str:
        """How many answers of this page are not right."""
        wrong = [field for field in self.section.asked(self.visit.texts) if self.visit.shown_fault(field.key)]
        return f"{counted(len(wrong), 'answer')} not right" if wrong else ""

    def on_input_changed(self, event: TypedEntry.Changed) -> None:
        """Keep what was typed."""
        self._changed(event.input)

    def on_options_changed(self, event: Options.Changed) -> None:
        """Keep what was marked."""
        self._changed(event.sender)

    def on_typed_entry_pasted(self, event: TypedEntry.Pasted) -> None:
        """Several pasted lines become several rows, where there are rows."""
        question = self._of(event.entry)
        if question is None:
            return
        if question.field.kind is not Kind.ROWS:
            event.entry.put(" ".join(event.lines))
            return
        before = [one.text for one in self._rows(question.field.key)]
        before[question.number : question.number + 1] = [f"{event.entry.value}{event.lines[0]}", *event.lines[1:]]
        self._refill(question.field, [text[:MOST] for text in before if text.strip()][:_MOST_ROWS])

    def on_options_submitted(self) -> None:
        """Enter on a line of choices."""
        self.act("on")

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Remember where the person is."""
        if question := self._of(event.widget):
            self.visit.focus[self.section.id] = question.field.key
            self._explain()

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """A question that was left may be complained about."""
        question = self._of(event.widget)
        if question and question.field.required and self.is_active:
            self.visit.touched.add(question.field.key)
            self.repaint()

    def act(self, name: str) -> None:
        """Next question, next page, page before, offers."""
        match name:
            case "on":
                self._next()
            case "down":
                self.wizard.go_on()
            case "offer":
                self._offer()
            case _:
                super().act(name)

    # Questions.

    def _present(self) -> Question | None:
        key = self.visit.focus.get(self.section.id, "")
        focused = self._of(self.focused) if self.focused else None
        return focused or next((one for one in self.query(Question) if one.field.key == key and one.display), None)

    def _of(self, widget: Widget) -> Question | None:
        return next((one for one in widget.ancestors_with_self if isinstance(one, Question)), None)

    def _rows(self, key: str) -> list[Question]:
        return [question for question in self.query(Question) if question.field.key == key]

    def _changed(self, control: Widget) -> None:
        question = self._of(control)
        if question is None:
            return
        key, text = question.field.key, question.text
        if question.field.kind is Kind.ROWS:
            entries = self._rows(key)
            text = "\n".join(one.text for one in entries)
            if entries[-1].text and len(entries) < _MOST_ROWS:
                spare = Question(question.field, "", number=len(entries), ascii=self.wizard.plain)
                self.query_one("#body").mount(spare, after=entries[-1])
        if rows(text) == rows(self.visit.texts.get(key, "")) and text.strip() == self.visit.texts.get(key, "").strip():
            return  # the first paint says what is there already
        self.visit.set(key, text)
        self.wizard.typed()
        self.repaint()

    def _refill(self, field: Field, texts: list[str]) -> None:
        entries = self._rows(field.key)
        self.visit.set(field.key, "\n".join(texts))
        self.wizard.typed()
        wanted = [*texts, ""][:_MOST_ROWS]
        for entry, text in zip(entries, wanted, strict=False):
            if isinstance(entry.control, TypedEntry):
                entry.control.value = text
        for number in range(len(entries), len(wanted)):
            spare = Question(field, wanted[number], number=number, ascii=self.wizard.plain)
            self.query_one("#body").mount(spare, after=self._rows(field.key)[-1])
        self.repaint()

    def _next(self) -> None:
        asked = [question for question in self.query(Question) if question.display]
        present = self._present()
        if present and present is not asked[-1]:
            self.set_focus(asked[asked.index(present) + 1].control)
            return
        wrong = self.visit.faults_in(self.section)
        if not wrong:
            self.wizard.go_on()
            return
        self.visit.touched |= {field.key for field in wrong}
        self.repaint()
        first = next(question for question in asked if question.field.key == wrong[0].key)
        self.set_focus(first.control)
        self.say("This is not right yet. PgDn goes on all the same.", Tone.WARN)

    def _offer(self) -> None:
        question = self._present()
        offered = self._offered(question)
        if question is None or not offered or not isinstance(question.control, TypedEntry):
            self.say("The box offers nothing here.")
            return
        here = offered.index(question.text) if question.text in offered else -1
        question.control.value = offered[(here + 1) % len(offered)]
        question.control.cursor_position = len(question.control.value)

    def _offered(self, question: Question | None) -> tuple[str, ...]:
        return self.visit.machine.suggestions.get(question.field.key, ()) if question else ()

    def _explain(self) -> None:
        question = self._present()
        if question is None:
            return
        room = max(20, self.look.width - 6)
        told = [line("   ", Span(part, Tone.FAINT)) for part in fmt.wrap(question.field.help.replace("`", "'"), room)]
        if offered := self._offered(question):
            told.append(line(Span("   F2 offers: ", Tone.FAINT), fmt.fit(", ".join(offered), room - 11).rstrip()))
        if question.field.choices:
            told.append(line(Span("   Left and Right move, Space marks.", Tone.FAINT)))
        self.query_one("#told", Note).paint([(spans, False) for spans in [(), *told][:4]])
