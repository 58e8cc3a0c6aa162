"""What the console costs: imports before the first paint, and memory over many screens."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import psutil
from textual.widget import Widget

from tests.console.fake_client import FakeAppliance
from tests.console.screen_text import running
from tests.console.terminal import ROOT

OWN_IMPORTS = 0.1
"""Seconds of processor time for our modules, beyond Textual's."""
WARM_UP, ROUNDS = 4, 16
GROWTH = 6 << 20
"""Bytes that so many rounds may add, caches included."""

_MEASURE = """
import json, sys, time
import textual.app, textual.screen, textual.widgets, textual.containers, textual.worker
from textual.widgets import Input
begun = time.process_time()
import tui.app
print(json.dumps({"seconds": time.process_time() - begun, "modules": sorted(sys.modules)}))
"""


def test_our_imports_are_cheap_and_the_http_client_waits() -> None:
    told = [json.loads(_python(_MEASURE)) for _ in range(3)]
    assert min(one["seconds"] for one in told) <= OWN_IMPORTS
    assert not {"httpx", "sqlalchemy", "torch", "transformers", "click"} & set(told[0]["modules"])


def test_line_mode_and_tier_need_no_textual() -> None:
    modules = set(json.loads(_python("import json, sys, tui.main, tui.line; print(json.dumps(sorted(sys.modules)))")))
    assert not {"textual", "rich", "httpx"} & modules


async def test_screens_leave_nothing_behind() -> None:
    """Counts widgets, not bytes: Textual fills bounded caches over the first 300 screens, which hides a small leak."""
    process = psutil.Process()
    async with running(FakeAppliance()) as console:
        await console.shows("Health")

        async def around(rounds: int) -> int:
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

        widgets = await around(WARM_UP)
        before = process.memory_info().rss
        assert await around(ROUNDS) <= widgets
        assert process.memory_info().rss - before <= GROWTH


def _python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
