"""Start the console: choose the tier, prepare the environment that Textual reads at import, run, restore.

Textual is imported only after the choice, and never for the line mode.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from tui.session import Session, over_socket
from tui.term import Choice, Tier, choose
from tui.terminal import prepare_environment, this_terminal


def run_console(socket: Path, *, tier: str | None = None, line: bool = False) -> int:
    """Run the console on this terminal until the person leaves; return the exit code.

    Raises BadInput for an unknown tier.
    """
    choice = choose(this_terminal(), asked=tier, line=line)
    session = Session(over_socket(socket))
    if choice.tier is Tier.LINE:
        from tui.line import run_line

        return run_line(session, out=sys.stdout, read=sys.stdin.readline, host=platform.node(), why=choice.why)
    return _run_full_screen(session, choice)


def _run_full_screen(session: Session, choice: Choice) -> int:
    prepare_environment(choice)
    from tui.app import Console

    console = Console(session, choice, host=platform.node())
    code = console.run(mouse=choice.tier is Tier.RICH)
    if console.return_code and code is None:
        sys.stderr.write("The full-screen console stopped. The plain one is: intramuros console --line\n")
        return console.return_code
    return code or 0
