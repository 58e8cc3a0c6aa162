"""What every full-screen program of ours shares: the theme of the tier, plain or rich look, a clean end on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from textual.app import App

from tui.term import Choice, Tier
from tui.theme import themes

TERMINATED = 128 + signal.SIGTERM
_SLOWNESS = 2.5
"""How much rarer a basic terminal is refreshed: on a serial line bytes are the latency."""


class Shell(App[int]):
    """A full-screen program on a terminal of some tier."""

    CSS_PATH = Path(__file__).with_name("console.tcss")
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    TITLE = "Intramuros"

    def __init__(self, choice: Choice) -> None:
        # The filter that removes every colour is chosen before a theme can be set, so mono says it here.
        super().__init__(ansi_color=True if choice.tier is Tier.MONO else None)
        self.plain = choice.ascii
        self.mono = choice.tier is Tier.MONO
        for theme in themes():
            self.register_theme(theme)
        self.theme = {Tier.RICH: "dark", Tier.MONO: "mono"}.get(choice.tier, "console16")

    @property
    def slowness(self) -> float:
        """Factor on every refresh interval."""
        return _SLOWNESS if self.plain else 1.0

    def on_load(self) -> None:
        """SIGTERM leaves through the front door, so that the terminal is restored."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, TERMINATED)

    def dress(self) -> None:
        """Apply the look to every screen; a program overrides it."""

    def change_look(self) -> None:
        """Rich to basic, or back. Mono stays without colour."""
        self.plain = not self.plain
        if not self.mono:
            self.theme = "console16" if self.plain else "dark"
        self.dress()

    def _set_pointer_shape(self, shape: str) -> None:
        """No mouse, no pointer: a plain terminal would print the sequence or stall on it."""
        if not self.plain:
            super()._set_pointer_shape(shape)
