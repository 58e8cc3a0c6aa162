"""The full-screen console: screens on a stack, the theme of the tier, signals. No business logic.

Home is at the bottom of the stack; a list above it, a record above that, and a dialog on top. Digits drop the stack.
"""

from __future__ import annotations

from collections.abc import Callable

from textual.screen import Screen

from appliance.kernel.clock import Clock, utc_now
from tui.deed import Target
from tui.draft import Draft
from tui.places import HOME, LIST_OF, READ_OF
from tui.screens.form import FormScreen
from tui.screens.frame import Frame
from tui.screens.listing import ListScreen
from tui.screens.reading import ReadScreen, Sheet
from tui.screens.tell import Tell
from tui.session import Session
from tui.shell import Shell
from tui.term import Choice
from tui.text import Line, Look, Tone
from tui.views.help import help_lines


class Console(Shell):
    """One console for one person."""

    def __init__(self, session: Session, choice: Choice, *, host: str, clock: Clock = utc_now) -> None:
        super().__init__(choice)
        self.session = session
        self.host = host
        self.clock = clock
        self.drafts: dict[str, Draft] = {}
        """recipe -> the run being filled in, kept when a key leads away from its form"""

    def get_default_screen(self) -> Screen[None]:
        """Home is always there."""
        return ReadScreen(HOME, Target())

    async def on_unmount(self) -> None:
        """Close the connection."""
        await self.session.close()

    def go(self, place: str) -> None:
        """Show a place of the first level."""
        # Nothing is awaited: the stack has changed when this returns, so that keys typed ahead reach the new screen.
        while len(self.screen_stack) > (2 if place in LIST_OF else 1):
            self.pop_screen()
        if place in LIST_OF:
            show = self.switch_screen if len(self.screen_stack) == 2 else self.push_screen
            screen = ListScreen(LIST_OF[place])
            screen.hold_paint(self)
            show(screen)

    def open(self, place: str, target: Target) -> None:
        """Show a record."""
        screen = ReadScreen(READ_OF[place], target)
        screen.hold_paint(self)
        self.push_screen(screen)

    def tune(self, draft: Draft) -> None:
        """Fill in a run, or go on with the one of this recipe that was left."""
        self.push_screen(FormScreen(self.drafts.get(draft.recipe.name, draft)))

    def read(self, title: str, render: Callable[[Look], list[Line]]) -> None:
        """Show lines that are known already."""
        self.push_screen(Sheet(title, render))

    def help(self, place: str) -> None:
        """Show what the keys do here."""
        here = self.screen
        refused = here.refused() if isinstance(here, Frame) else {}
        self.read(f"Help: {place}", lambda look: help_lines(place, refused, look))

    def back(self) -> None:
        """One step back; at Home, ask whether to leave."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            told = ("Nothing stops by it: models keep answering and jobs keep running.",)
            self.push_screen(Tell("Leave the console?", told, agree="Leave", ascii=self.plain), self._leave)

    def show_id(self, screen: Frame, target: Target) -> None:
        """Show an id for copying; a capable terminal gets it on its clipboard too."""
        name = target.words.get("id", target.name)
        if not self.plain:
            self.copy_to_clipboard(name)
        screen.say(name, Tone.STRONG)

    def dress(self) -> None:
        """Apply the look to every screen."""
        for screen in self.screen_stack:
            if isinstance(screen, Frame):
                screen.dress()

    def change_theme(self) -> None:
        """Dark to light, or back; the sixteen-colour themes follow the terminal's own setting."""
        if self.theme in ("dark", "light"):
            self.theme = "light" if self.theme == "dark" else "dark"
        elif isinstance(self.screen, Frame):
            self.screen.say("this look takes its colours from the terminal", Tone.WARN)

    def action_help_quit(self) -> None:
        """Ctrl+C does not end the console by accident."""
        if isinstance(self.screen, Frame):
            self.screen.say("Ctrl+Q leaves the console, Esc goes back.")

    def action_command_palette(self) -> None:
        """Ctrl+P is our own palette."""
        if isinstance(self.screen, Frame):
            self.screen.navigate("palette")

    def _leave(self, agreed: bool | None) -> None:
        if agreed:
            self.exit(0)
