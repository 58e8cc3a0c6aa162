"""This process's terminal: its facts for the choice of the tier, and the environment that Textual reads at import."""

from __future__ import annotations

import os
import shutil
import sys

from tui.term import Choice, Terminal, Tier


def this_terminal() -> Terminal:
    """Look at standard input, output and error."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
    size = shutil.get_terminal_size((0, 0))
    return Terminal(
        environ=dict(os.environ),
        interactive=interactive,
        device=os.ttyname(sys.stdin.fileno()) if interactive else "",
        columns=size.columns,
        rows=size.lines,
    )


def prepare_environment(choice: Choice) -> None:
    """Textual reads these at import; there is no other way to tell it."""
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    if choice.tier is Tier.MONO:
        os.environ["NO_COLOR"] = "1"
    else:
        os.environ.pop("NO_COLOR", None)
    if choice.tier is Tier.BASIC:
        os.environ["TEXTUAL_COLOR_SYSTEM"] = "standard"
    if choice.ascii:
        os.environ["TEXTUAL_DISABLE_KITTY_KEY"] = "1"
