"""Start the wizard: choose the tier, then the full screen or line mode. Only the full screen imports Textual."""

from __future__ import annotations

import getpass
import signal
import sys
from pathlib import Path
from types import FrameType

from tui.install.backend import Backend
from tui.install.visit import Visit
from tui.term import Choice, Tier, choose
from tui.terminal import prepare_environment, this_terminal


def run_wizard(backend: Backend, *, draft: Path, tier: str | None = None, line: bool = False) -> int:
    """Run the wizard on this terminal until the box is installed or the person leaves; return the exit code.

    `draft` is where the answers are kept while they are given. Raises BadInput for an unknown tier.
    """
    choice = choose(this_terminal(), asked=tier, line=line)
    visit = Visit(backend, draft)
    if choice.tier is Tier.LINE:
        from tui.install.line import run_line

        signal.signal(signal.SIGTERM, _end)
        return run_line(visit, out=sys.stdout, read=sys.stdin.readline, read_secret=_read_secret, why=choice.why)
    return _run_full_screen(visit, choice)


def run_install(*, bundle: Path | None, tier: str | None = None) -> int:
    """Run the wizard for this box: `intramuros install` without an answer file. Raises BadInput."""
    from tui.install.real import ThisBox

    box = ThisBox(bundle)
    return run_wizard(box, draft=box.draft, tier=tier)


def _run_full_screen(visit: Visit, choice: Choice) -> int:
    prepare_environment(choice)
    from tui.install.app import Wizard

    wizard = Wizard(visit, choice)
    code = wizard.run(mouse=choice.tier is Tier.RICH)
    if wizard.return_code and code is None:
        sys.stderr.write("The full-screen wizard stopped. The plain one is: intramuros install --tier line\n")
        return wizard.return_code
    return code or 0


def _end(number: int, frame: FrameType | None) -> None:
    """End by way of every `finally`: a hidden prompt has switched the terminal's echo off."""
    raise SystemExit(128 + number)


def _read_secret(prompt: str) -> str:
    """Read without echo from a terminal; from a pipe there is nothing to hide."""
    if sys.stdin.isatty():
        return getpass.getpass(prompt, stream=sys.stdout)
    sys.stdout.write(prompt)
    sys.stdout.flush()
    text = sys.stdin.readline()
    if not text:
        raise EOFError
    return text.rstrip("\n")
