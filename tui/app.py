"""The full-screen console: screens on a stack, the theme of the tier, signals. No business logic.

Home is at the bottom of the stack; a list above it, a record above that, and a dialog on top. Digits drop the stack.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from textual.app import App
from textual.screen import Screen

from appliance.kernel.clock import Clock, utc_now
from tui.deed import Target
from tui.places import HOME, LIST_OF, READ_OF
from tui.screens.dialog import Tell
from tui.screens.frame import Frame
from tui.screens.listing import ListScreen
from tui.screens.reading import ReadScreen, Sheet
from tui.session import Session
from tui.term import Choice, Tier
from tui.text import Line, Look, Tone
from tui.theme import themes
from tui.views.help import help_lines

TERMINATED = 128 + signal.SIGTERM
_SLOWNESS = 2.5
"""How much rarer a basic terminal is refreshed: on a serial line bytes are the latency."""


class Console(App[int]):
    """One console for one person."""

    CSS_PATH = "console.tcss"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    TITLE = "Intramuros"

    def __init__(self, session: Session, choice: Choice, *, host: str, clock: Clock = utc_now) -> None:
        # The filter that removes every colour is chosen before a theme can be set, so mono says it here.
        super().__init__(ansi_color=True if choice.tier is Tier.MONO else None)
        self.session = session
        self.host = host
        self.clock = clock
        self.plain = choice.ascii
        self.mono = choice.tier is Tier.MONO
        for theme in themes():
            self.register_theme(theme)
        self.theme = {Tier.RICH: "dark", Tier.MONO: "mono"}.get(choice.tier, "console16")

    @property
    def slowness(self) -> float:
        """Factor on every refresh interval."""
        return _SLOWNESS if self.plain else 1.0

    def get_default_screen(self) -> Screen[None]:
        """Home is always there."""
        return ReadScreen(HOME, Target())

    def on_load(self) -> None:
        """SIGTERM leaves through the front door, so that the terminal is restored."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, TERMINATED)

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

    def change_look(self) -> None:
        """Rich to basic, or back. Mono stays without colour."""
        self.plain = not self.plain
        if not self.mono:
            self.theme = "console16" if self.plain else "dark"
        self._dress()

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

    def _set_pointer_shape(self, shape: str) -> None:
        """No mouse, no pointer: a plain terminal would print the sequence or stall on it."""
        if not self.plain:
            super()._set_pointer_shape(shape)

    def _leave(self, agreed: bool | None) -> None:
        if agreed:
            self.exit(0)

    def _dress(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, Frame):
                screen.dress()
