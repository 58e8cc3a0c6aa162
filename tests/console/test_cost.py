"""What the console costs: imports before the first paint, and memory over many screens."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.console.terminal import ROOT

OWN_IMPORTS = 0.25
"""Calls our modules make while they are imported, as a part of Textual's: counted, so the machine does not matter."""
GROWTH = 6 << 20
"""Bytes that so many rounds may add, caches included."""

_MEASURE = """
import json, sys
calls = 0
def count(*_):
    global calls
    calls += 1
sys.setprofile(count)
import textual.app, textual.screen, textual.widgets, textual.containers, textual.worker
from textual.widgets import Input
textuals = calls
import tui.app
sys.setprofile(None)
print(json.dumps({"share": (calls - textuals) / textuals, "modules": sorted(sys.modules)}))
"""


def test_our_imports_are_cheap_and_the_http_client_waits() -> None:
    told = json.loads(_python(_MEASURE))
    assert told["share"] <= OWN_IMPORTS
    assert not {"httpx", "sqlalchemy", "torch", "transformers", "click", "yaml"} & set(told["modules"])


def test_line_mode_and_tier_need_no_textual() -> None:
    modules = set(json.loads(_python("import json, sys, tui.main, tui.line; print(json.dumps(sorted(sys.modules)))")))
    assert not {"textual", "rich", "httpx"} & modules


def test_screens_leave_nothing_behind() -> None:
    """Counts widgets first: Textual fills bounded caches over the first 300 screens, which hides a small leak.

    In a process of its own, whose memory nothing else moves.
    """
    argv = [sys.executable, "-m", "tests.console.soak"]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    left = json.loads(ended.stdout)
    assert left["widgets"] <= 0
    assert left["bytes"] <= GROWTH


def test_stages_of_the_wizard_leave_nothing_behind() -> None:
    argv = [sys.executable, "-m", "tests.console.wizard_soak"]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    left = json.loads(ended.stdout)
    assert left["widgets"] <= 0
    assert left["bytes"] <= GROWTH


def _python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
