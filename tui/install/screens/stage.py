"""What every stage shares: top line, title, body, key bar, and the line for terminals that are too small."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from textual import events
from textual.app import App, ComposeResult
from textual.screen import Screen

from appliance.kernel.errors import IntramurosError
from tui import format as fmt
from tui.install.keys import Key, bar_line, for_key, help_lines
from tui.install.visit import Visit
from tui.screens.tell import Tell
from tui.screens.work import start
from tui.term import FULL_SIZE
from tui.text import Line, Look, Span, Tone, line, plain
from tui.widgets.painted import Bar, Painted
from tui.widgets.panes import Page, Pane

if TYPE_CHECKING:
    from tui.install.app import Wizard

HOLD = 0.3
"""Seconds after which a new stage is painted at the latest."""
_AROUND = 3
"""Lines that are not the body: top, title, key bar."""


class Stage(Screen[None]):
    """Base of every stage. A subclass has a `keys_of`, a `title_text`, a body, and says how to show what it knows."""

    DEFAULT_CSS = """
    Stage > #small { display: none; height: 1fr; }
    Stage.-small > * { display: none; }
    Stage.-small > #small { display: block; }
    """
    AUTO_FOCUS = "#body"
    keys_of = ""
    title_text = ""

    def __init__(self) -> None:
        super().__init__()
        self.message: Line = ()
        self._held = ExitStack()

    # What a subclass gives.

    def body(self) -> ComposeResult:
        """Build the body; by default lines to read."""
        yield Page(id="body")

    def show(self) -> None:
        """Put what is known on the screen."""

    def refused(self) -> dict[str, str]:
        """Which keys do nothing now, and why."""
        return {}

    def right(self) -> str:
        """What stands at the right end of the title."""
        pane = self.query(Pane)
        return str(getattr(pane.first(), "position", "")) if pane else ""

    def act(self, name: str) -> None:
        """Do what a key means; subclasses add their own."""
        match name:
            case "back":
                self.wizard.go_back()
            case "help":
                told = tuple(plain(spans) for spans in help_lines(self.keys_of, self.refused(), self.look))
                self.app.push_screen(Tell("Help", told, ascii=self.wizard.plain))
            case "look":
                self.wizard.change_look()
            case "leave":
                self.wizard.leave()

    # The stage itself.

    @property
    def wizard(self) -> Wizard:
        """The application, with its type."""
        return cast("Wizard", self.app)

    @property
    def visit(self) -> Visit:
        """What was typed so far."""
        return self.wizard.visit

    @property
    def look(self) -> Look:
        """The room and the characters a page has."""
        width, height = self.size.width or FULL_SIZE[0], (self.size.height or FULL_SIZE[1]) - _AROUND
        return Look(width=width, height=height, now=self.wizard.clock(), ascii=self.wizard.plain)

    def compose(self) -> ComposeResult:
        """Top line, title, body, key bar; and the line for small terminals."""
        yield Bar(id="top", reverse=True)
        yield Bar(id="title")
        yield from self.body()
        yield Bar(id="bar")
        yield Bar(id="small")

    def hold_paint(self, app: App[int]) -> None:
        """Paint nothing until the stage is complete: each of its half-built states would cost a screen of bytes."""
        self._held.enter_context(app.batch_update())

    def on_mount(self) -> None:
        """First paint. Textual calls this after a subclass's own `on_mount`, which must not call it again."""
        self.dress()
        self.set_timer(HOLD, self.release_paint)

    def release_paint(self) -> None:
        """The stage is mounted, laid out, and the one before is gone."""
        self._held.close()
        self.check_idle()  # a stage without a further event would not notice that it may be painted now

    def on_unmount(self) -> None:
        """A stage that went before it was ever shown must not hold the paint."""
        self._held.close()

    def on_resize(self, event: events.Resize) -> None:
        """Say so when there is too little room."""
        small = event.size.width < FULL_SIZE[0] or event.size.height < FULL_SIZE[1]
        self.set_class(small, "-small")
        self.call_after_refresh(self.repaint)
        if not small and self.focused is None:
            self.call_after_refresh(self.refocus)

    def refocus(self) -> None:
        """Give the keyboard back to the body after the terminal was too small."""
        self.query_one("#body").focus()

    def on_pane_moved(self) -> None:
        """The title line shows the position."""
        self.frame()

    def dress(self) -> None:
        """Apply the look of the tier to every widget."""
        for widget in self.query(Painted):
            if widget.ascii != self.wizard.plain:
                widget.ascii = self.wizard.plain
                widget.refresh()
        self.repaint()

    def repaint(self) -> None:
        """Draw body and frame again from what is known."""
        if self.is_mounted:
            self.show()
            self.frame()

    def frame(self) -> None:
        """Draw the lines around the body."""
        if not self.is_mounted:
            return
        machine, size, stages = self.visit.machine, self.size, self.visit.stages()
        here = (
            f"step {stages.index(self.wizard.stage) + 1} of {self.visit.steps()} "
            if self.wizard.stage in stages
            else ""
        )
        name = Span(f" Intramuros {fmt.clean(machine.release)} installer  {fmt.clean(machine.host)}", Tone.STRONG)
        self.query_one("#top", Bar).say(line(name), line(here))
        right = self.right()
        title = line(Span(f" {self.title_text}", Tone.HEAD), "   ", *self.message)
        self.query_one("#title", Bar).say(title, line(Span(f" {right} ", Tone.STRONG)) if right else ())
        self.query_one("#bar", Bar).say(bar_line(self.keys_of, self.refused()))
        wanted, now = f"{FULL_SIZE[0]}x{FULL_SIZE[1]}", f"{size.width}x{size.height}"
        small = f"Enlarge to {wanted} (now {now}), or leave and add: --tier line"
        self.query_one("#small", Bar).say(line(small))

    def say(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        """Put one line beside the title, until the next key."""
        self.message = line(Span(fmt.clean(text), tone))
        self.frame()

    def complain(self, error: IntramurosError) -> None:
        """Say an error beside the title, and at length in a dialog when there is a hint."""
        self.say(f"FAIL {error.code}", Tone.BAD)
        told = (error.message, error.hint) if error.hint else (error.message,)
        self.app.push_screen(Tell(error.code, told, ascii=self.wizard.plain))

    def work(self, group: str, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start asynchronous work; errors of the installer are told."""

        async def guarded() -> None:
            try:
                await call()
            except IntramurosError as error:
                self.complain(error)

        start(self, group, guarded)

    def on_key(self, event: events.Key) -> None:
        """Find the key in the table."""
        pressed = event.character if event.is_printable and event.character else event.key
        key = for_key(self.keys_of, pressed)
        if key is None:
            return
        event.stop()
        event.prevent_default()
        if self.has_class("-small") and key.id not in ("leave", "back"):
            return
        self.message = ()
        self.pressed(key)

    def pressed(self, key: Key) -> None:
        """Do it, or say why not."""
        if reason := self.refused().get(key.id):
            self.say(f"{key.label}: {reason}", Tone.WARN)
        else:
            self.act(key.id)
            self.frame()
