"""`python -m tui --socket PATH [--line | --basic | --mono | --rich]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.kernel.errors import IntramurosError
from tui.main import run_console


def main() -> int:
    """Read the flags and run; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tui", description="The Intramuros console.")
    parser.add_argument("--socket", type=Path, required=True, help="the control socket, run/control.sock of the state")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--line", action="store_true", help="numbered menu: dumb terminals, screen readers, pipes")
    for name in ("rich", "basic", "mono"):
        which.add_argument(f"--{name}", dest="tier", action="store_const", const=name, help=f"force the {name} look")
    given = parser.parse_args()
    try:
        return run_console(given.socket, tier=given.tier, line=given.line)
    except IntramurosError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
