"""The set-up of `make test-boxes`: programs for containers and virtual machines. Needs root."""

from __future__ import annotations

import sys

from tools.bootstrap.box_programs import require_box_programs
from tools.bootstrap.narration import SetupFailure, say
from tools.setup_environment import ROOT


def main() -> int:
    """Install what is missing. Exit status: 0 ready, 1 not."""
    try:
        require_box_programs(ROOT / ".venv" / "setup-boxes.log")
    except SetupFailure as failure:
        say(f"FAILED: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
