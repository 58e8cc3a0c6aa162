"""What a running console shows, as text. The only test helper that touches Textual's private parts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual import events
from textual.app import App
from textual.pilot import Pilot

from tests.console.fake_client import FakeAppliance
from tests.console.fake_data import NOW
from tui.app import Console
from tui.session import Sender, Session
from tui.term import Choice, Tier

GOLDEN = Path(__file__).parent / "golden"
DEADLINE = 5.0
RICH = Choice(tier=Tier.RICH, ascii=False, why="")
BASIC = Choice(tier=Tier.BASIC, ascii=True, why="")


def session_over(appliance: FakeAppliance) -> Session:
    """A session that talks to the fake."""

    async def connect() -> Sender:
        return appliance

    return Session(connect)


class Driver:
    """A console under test: presses keys and waits for what must appear."""

    def __init__(self, app: App[Any], pilot: Pilot[Any]) -> None:
        self.app, self._pilot = app, pilot

    @property
    def text(self) -> str:
        """The screen, without trailing blanks."""
        strips = self.app.screen._compositor.render_strips(self.app.size)
        return "\n".join(strip.text.rstrip() for strip in strips)

    async def press(self, *keys: str, shows: str | tuple[str, ...] = ()) -> str:
        """Press keys one after the other, wait until what they bring is there, and return the screen."""
        await self._pilot.press(*keys)
        return await self.shows(*((shows,) if isinstance(shows, str) else shows))

    def burst(self, *keys: str) -> None:
        """Let keys arrive all at once, as from a fast hand on a slow machine."""
        for key in keys:
            self.app.post_message(events.Key(key, key if len(key) == 1 else None))

    async def resize(self, width: int, height: int) -> None:
        """Change the terminal's size."""
        await self._pilot.resize_terminal(width, height)

    async def shows(self, *wanted: str) -> str:
        """Wait until every text is on the screen; return the screen."""
        await self.until(lambda: all(text in self.text for text in wanted), f"{wanted} in\n{self.text}")
        return self.text

    async def until(self, condition: Callable[[], bool], what: str = "condition") -> None:
        """Wait for a condition, failing with its description and the screen."""
        loop = asyncio.get_running_loop()
        end = loop.time() + DEADLINE
        while not condition():
            assert loop.time() < end, f"never: {what}\n{self.text}"
            await self._pilot.pause()


@asynccontextmanager
async def running(
    appliance: FakeAppliance, *, size: tuple[int, int] = (80, 24), choice: Choice = RICH
) -> AsyncIterator[Driver]:
    """Run a console against the fake, without a terminal."""
    app = Console(session_over(appliance), choice, host="box-7", clock=lambda: NOW)
    async with app.run_test(size=size) as pilot:
        yield Driver(app, pilot)


def check_golden(name: str, text: str) -> None:
    """Compare with golden/NAME.txt; `UPDATE_GOLDEN=1` writes it instead (read the diff before you commit)."""
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        file.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == file.read_text(encoding="utf-8"), f"{file.name} differs; UPDATE_GOLDEN=1 if that is meant"
