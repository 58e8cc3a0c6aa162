"""What every screen shares: top line, title or banner, body, key bar; one refresh loop; actions by the table.

Only the visible screen asks the appliance anything: the loop ends when the screen is covered. Errors become one line;
a lost service becomes a banner on line 2 that says what still works.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.widgets import Input

from appliance.kernel.errors import IntramurosError
from tui import format as fmt
from tui.actions import at, for_key, refusal
from tui.deed import Action, Answers, Deed, Target, in_one_line
from tui.screens.dialog import AskFirst
from tui.screens.palette import Palette
from tui.screens.tell import Tell
from tui.screens.work import start
from tui.term import FULL_SIZE
from tui.text import Line, Look, Span, Tone, line
from tui.widgets.keybar import bar_line
from tui.widgets.painted import Bar, Painted
from tui.widgets.panes import Listing, Page, Pane

if TYPE_CHECKING:
    from tui.app import Console

HOLD = 0.1
"""Seconds a new screen may wait for its first data before it is painted without."""
RETRY = 2.0
"""Seconds between two knocks while the service is away."""
_BANNER = "No control service: models still answer, jobs still run, changes wait."


def roles_text(roles: tuple[str, ...]) -> str:
    """Name at most two roles and count the rest."""
    first = ", ".join(roles[:2]) or "no role"
    return f"{first} and {len(roles) - 2} more" if len(roles) > 2 else first


class Frame(Screen[None]):
    """Base of every screen. A subclass has a `place`, a `body`, and says how to load and to show."""

    AUTO_FOCUS = "#body"
    place = ""

    def __init__(self) -> None:
        super().__init__()
        self.problem: IntramurosError | None = None
        self.loaded = False
        self._message: Line = ()
        self._held = ExitStack()

    # What a subclass gives.

    def body(self) -> Pane:
        """Build the body."""
        raise NotImplementedError

    async def load(self) -> None:
        """Fetch; raises IntramurosError."""

    def show(self) -> None:
        """Put what was fetched on the screen."""

    def heading(self) -> str:
        """The title."""
        raise NotImplementedError

    def interval(self) -> float:
        """Seconds until the next look; 0 means only when asked."""
        return 0.0

    def target(self) -> Target | None:
        """What an action would act upon."""
        return None

    # The frame itself.

    @property
    def console(self) -> Console:
        """The application, with its type."""
        return cast("Console", self.app)

    @property
    def look(self) -> Look:
        """The room and the characters a view has."""
        pane = self.query_one("#body", Pane).size
        width, height = pane.width or FULL_SIZE[0], pane.height or FULL_SIZE[1] - 3
        return Look(width=width, height=height, now=self.console.clock(), ascii=self.console.plain)

    def compose(self) -> ComposeResult:
        """Top line, title, body, key bar; and the line for small terminals."""
        yield Bar(id="top", reverse=True)
        yield Bar(id="title")
        yield Input(placeholder="rows with this text; Enter keeps it, Esc ends it", id="filter", compact=True)
        yield self.body()
        yield Bar(id="bar")
        yield Bar(id="small")

    def on_mount(self) -> None:
        """First paint, before anything is fetched."""
        self.query_one("#filter", Input).cursor_blink = False
        self.dress()

    def on_screen_resume(self) -> None:
        """The screen is visible: start asking."""
        start(self, "fetch", self._loop)

    def on_screen_suspend(self) -> None:
        """The screen is covered: stop asking."""
        self._held.close()
        self.workers.cancel_group(self, "fetch")

    def on_unmount(self) -> None:
        """A screen that went before it was ever shown must not hold the paint."""
        self._held.close()

    def on_resize(self, event: events.Resize) -> None:
        """Say so when there is too little room."""
        small = event.size.width < FULL_SIZE[0] or event.size.height < FULL_SIZE[1]
        self.set_class(small, "-small")
        if not small and self.focused is None:
            self.query_one("#body").focus()
        self.call_after_refresh(self.repaint)

    def on_pane_moved(self) -> None:
        """The title line shows the position."""
        self.frame()

    def dress(self) -> None:
        """Apply the look of the tier to every widget."""
        for widget in self.query(Painted):
            if widget.ascii != self.console.plain:
                widget.ascii = self.console.plain
                widget.refresh()
        self.repaint()

    def repaint(self) -> None:
        """Draw body and frame again from what is known."""
        if not self.is_mounted:
            return
        if self.loaded:
            self.show()
        elif self.problem:
            self._show_problem(self.problem)
        self.frame()

    def frame(self) -> None:
        """Draw the three lines around the body."""
        session, size = self.console.session, self.size
        who = f"{session.who.user} ({roles_text(session.who.roles)})" if session.who else ""
        right = f"{session.version}  {fmt.clean(who)} "
        self.query_one("#top", Bar).say(
            line(Span(f" Intramuros  {fmt.clean(self.console.host)}", Tone.STRONG)),
            line(fmt.fit(right, min(50, len(right)))),
        )
        self.query_one("#title", Bar).say(*self._title())
        self.query_one("#bar", Bar).say(bar_line(self.place, self.refused(), size.width or FULL_SIZE[0]))
        small = (
            f"Enlarge to {FULL_SIZE[0]}x{FULL_SIZE[1]} (now {size.width}x{size.height}), or: intramuros console --line"
        )
        self.query_one("#small", Bar).say(line(small))

    def say(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        """Put one line beside the title, until the next key."""
        self._message = line(Span(fmt.clean(text), tone))
        if self.is_mounted:
            self.frame()

    @property
    def tells(self) -> bool:
        """A message stands beside the title and needs its room."""
        return bool(self._message)

    def _title(self) -> tuple[Line, Line]:
        if self.console.session.lost:
            return line(Span(f" FAIL  {_BANNER}", Tone.BAD)), ()
        position = getattr(self.query_one("#body", Pane), "position", "")
        told = self._message
        if not told and self.problem and self.loaded:
            told = line(Span(f"{self.problem.code}: {fmt.clean(self.problem.message)}", Tone.WARN))
        if not told and not self.loaded and not self.problem:
            told = line(Span("Working...", Tone.FAINT))
        title = Span(f" {fmt.clean(self.heading())}", Tone.HEAD)
        return (title, Span("   "), *told), line(Span(f" {position} ", Tone.FAINT)) if position else ()

    def _show_problem(self, problem: IntramurosError) -> None:
        room = max(20, self.look.width - 6)
        told = [line(Span(f"   {part}", Tone.BAD)) for part in fmt.wrap(f"{problem.code}: {problem.message}", room)]
        told += [line(f"   {part}") for part in fmt.wrap(problem.hint, room)] if problem.hint else []
        pane = self.query_one("#body", Pane)
        if isinstance(pane, Page):
            pane.show([(), *told])
        elif isinstance(pane, Listing):
            pane.show_text([(), *told])

    def hold_paint(self, app: App[int]) -> None:
        """Paint nothing until the first data is here, or a moment has passed: an empty screen costs bytes too."""
        self._held.enter_context(app.batch_update())

    async def _loop(self) -> None:
        release = self.set_timer(HOLD, self._held.close)
        while True:
            try:
                await self.console.session.greet()
                await self.load()
                self.problem, self.loaded = None, True
            except IntramurosError as error:
                self.problem = error
            self.repaint()
            release.stop()
            self._held.close()
            pause = RETRY if self.console.session.lost else self.interval() * self.console.slowness
            if not pause:
                return
            await asyncio.sleep(pause)

    # Actions.

    def refused(self) -> dict[str, str]:
        """Which actions cannot be used now, and why."""
        session, target = self.console.session, self.target()
        if session.who is None:
            return {}
        reasons = {
            action.id: refusal(action, roles=session.roles, target=target, lost=session.lost is not None)
            for action in at(self.place)
        }
        return {name: reason for name, reason in reasons.items() if reason}

    def on_key(self, event: events.Key) -> None:
        """Find the key in the table."""
        if not self.is_active:
            # Typed ahead, while the key before it was opening another screen: it is meant for that one.
            event.stop()
            self.app.post_message(events.Key(event.key, event.character))
            return
        key = event.character if event.is_printable and event.character else event.key
        action = for_key(self.place, key)
        if action is None or (self.has_class("-filtering") and event.key != "escape"):
            return  # what is typed into the filter is no action
        event.stop()
        if action.id == "move":
            self.query_one("#body", Pane).on_key(event)  # typed ahead of the focus
            return
        if self.has_class("-small") and action.id not in ("quit", "back", "help"):
            return
        self._message = ()
        if event.key == "escape" and not self.can_go_back():
            self.frame()
        else:
            self.act(action)

    def can_go_back(self) -> bool:
        """Esc never leaves the console; only `q` at Home asks."""
        return len(self.app.screen_stack) > 1

    def act(self, action: Action) -> None:
        """Do an action, or say why not."""
        reason = self.refused().get(action.id)
        if reason and not self.loaded and self.problem is None:
            self.say("Working...", Tone.FAINT)
        elif reason:
            self.say(f"{action.label}: {reason}", Tone.WARN)
        elif action.deed is not None:
            self._ask(action, action.deed, self.target() or Target())
        else:
            self.navigate(action.id)

    def navigate(self, name: str) -> None:
        """Do what moves the console; subclasses add their own."""
        match name:
            case "refresh":
                self.refresh_data()
            case "back":
                self.console.back()
            case "palette":
                self.app.push_screen(Palette(self.place, self.refused(), ascii=self.console.plain), self._chosen)
            case "help":
                self.console.help(self.place)
            case "look":
                self.console.change_look()
            case "theme":
                self.console.change_theme()
            case "quit":
                self.console.exit(0)
            case _ if name.startswith("go."):
                self.console.go(name.removeprefix("go."))

    def refresh_data(self) -> None:
        """Ask again now, whatever the loop is waiting for."""
        start(self, "fetch", self._loop)

    # Dialogs are pushed at once, never from a worker: keys typed ahead must meet the dialog, not this screen.

    def _chosen(self, action: Action | None) -> None:
        if action is not None:
            self.act(action)

    def _ask(
        self,
        action: Action,
        deed: Deed,
        target: Target,
        given: Answers | None = None,
        fault: tuple[str, str] = ("", ""),
    ) -> None:
        def answered(answers: dict[str, str] | None) -> None:
            if answers is None:
                self.say("Nothing was changed." if action.danger else "")
                return
            work = partial(self._perform, action, deed, target, answers)
            start(self, "deed", work)

        if action.danger or deed.fields:
            question = AskFirst(
                action, deed, target, self.console.session, ascii=self.console.plain, given=given, fault=fault
            )
            self.app.push_screen(question, answered)
        else:
            answered({})

    async def _perform(self, action: Action, deed: Deed, target: Target, answers: dict[str, str]) -> None:
        self.say("Working...", Tone.FAINT)
        try:
            answer = await self.console.session.send(deed.call(target, answers))
        except IntramurosError as error:
            if field := deed.at_fault(error):
                self.say("")
                self._ask(action, deed, target, answers, (field, in_one_line(error)))
                return
            self.say(error.code, Tone.BAD)
            told = (error.message, error.hint) if error.hint else (error.message,)
            title = f"{action.label.capitalize()}: {error.code}"
            self.app.push_screen(Tell(title, told, ascii=self.console.plain))
            return
        if deed.result is not None:
            render = deed.result
            self.say("")
            self.console.read(action.label.capitalize(), lambda look: render(answer, look))
            return
        self.say(deed.fill(deed.done, target, answers), Tone.GOOD)
        if deed.then is not None:
            self.console.open(*deed.then(answer))
            return
        self.refresh_data()
