"""The wizard under test: over the fake installer, with a fixed clock and fixed groups of the recovery key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from textual import events

from tests.console.fake_data import NOW
from tests.console.fake_installer import DISK, FakeInstaller
from tests.console.screen_text import RICH, Driver
from tui.install.app import Wizard
from tui.install.visit import REVIEW, Visit
from tui.term import Choice

SECRET = "Correct horse battery 9"


def groups(_count: int) -> tuple[int, int]:
    """Always the same two groups."""
    return 3, 7


@asynccontextmanager
async def wizard(
    fake: FakeInstaller, draft: Path, *, size: tuple[int, int] = (80, 24), choice: Choice = RICH
) -> AsyncIterator[Driver]:
    """Run a wizard without a terminal."""
    app = Wizard(Visit(fake, draft), choice, clock=lambda: NOW, choose=groups)
    async with app.run_test(size=size) as pilot:
        yield Driver(app, pilot)


async def fill(driver: Driver, text: str) -> None:
    """Put a text into the field that has the focus, in one go as a paste does."""
    driver.app.post_message(events.Paste(text))
    await driver.press()


async def to_review(driver: Driver, fake: FakeInstaller, *, luks: bool = False) -> None:
    """Show the review of answers that are right, without walking there."""
    app = driver.app
    assert isinstance(app, Wizard)
    await driver.shows("The box is")
    app.visit.texts |= {"admin.user": "pat"}
    fake.secrets["admin_password_hash"] = SECRET
    if luks:
        app.visit.texts |= {"storage.mode": "luks", "storage.device": DISK, "storage.unlock": "passphrase"}
        fake.secrets["storage_passphrase"] = SECRET
    app.go(REVIEW)
    await driver.shows("A apply", "Plan")
