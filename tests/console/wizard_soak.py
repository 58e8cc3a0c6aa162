"""Walks the wizard's stages many times in a process of its own and tells what stayed: widgets, and bytes."""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
from pathlib import Path

import psutil
from textual.widget import Widget

from tests.console.fake_installer import FakeInstaller
from tests.console.screen_text import Driver
from tests.console.wizard import to_review, wizard
from tui.install.app import Wizard

WARM_UP, ROUNDS = 5, 4


async def soak() -> dict[str, int]:
    """Return how many widgets and bytes the rounds after the warm-up added."""
    process, fake = psutil.Process(), FakeInstaller()
    with tempfile.TemporaryDirectory() as folder:
        async with wizard(fake, Path(folder) / "draft.toml") as driver:
            await to_review(driver, fake, luks=True)
            widgets = await _around(driver, WARM_UP)
            before = process.memory_info().rss
            more = await _around(driver, ROUNDS) - widgets
            return {"widgets": more, "bytes": process.memory_info().rss - before}


async def _around(driver: Driver, rounds: int) -> int:
    app = driver.app
    assert isinstance(app, Wizard)
    for _ in range(rounds):
        for stage in (*app.visit.stages()[:-2], "checks"):
            app.go(stage)
            await driver.shows("Ctrl+Q leave")
        await driver.press("f1")
        await driver.shows("What the keys do here")
        await driver.press("escape")
        await driver.until(lambda: len(app.screen_stack) == 1)
    gc.collect()
    return sum(issubclass(type(thing), Widget) for thing in gc.get_objects())


if __name__ == "__main__":
    print(json.dumps(asyncio.run(soak())))
