"""Walks the console's screens many times in a process of its own and tells what stayed: widgets, and bytes."""

from __future__ import annotations

import asyncio
import gc
import json

import psutil
from textual.widget import Widget

from tests.console.fake_client import FakeAppliance
from tests.console.screen_text import Driver, running

WARM_UP, ROUNDS = 4, 16


async def soak() -> dict[str, int]:
    """Return how many widgets and bytes the rounds after the warm-up added."""
    process = psutil.Process()
    async with running(FakeAppliance()) as console:
        await console.shows("Health")
        widgets = await _around(console, WARM_UP)
        before = process.memory_info().rss
        more = await _around(console, ROUNDS) - widgets
        return {"widgets": more, "bytes": process.memory_info().rss - before}


async def _around(console: Driver, rounds: int) -> int:
    for _ in range(rounds):
        await console.press("2")
        await console.shows("1 of 4")  # a key that comes before the list has its rows opens nothing
        await console.press("enter")
        await console.shows("Loss")
        await console.press("C")
        await console.shows("[ Back ]")
        await console.press("escape")
        await console.until(lambda: "[ Back ]" not in console.text)
        await console.press("0")
        await console.until(lambda: len(console.app.screen_stack) == 1)
    gc.collect()
    return sum(issubclass(type(thing), Widget) for thing in gc.get_objects())


if __name__ == "__main__":
    print(json.dumps(asyncio.run(soak())))
