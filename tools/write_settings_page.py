"""`make docs`: write docs/it-staff/settings.md from the one table of settings, so that the two stay together."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.documented_fields import fields_of, table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "it-staff" / "settings.md"
SOURCE = ROOT / "appliance" / "kernel" / "settings.py"
_TOP = """# Settings

Written by `make docs` from `appliance/kernel/settings.py`. Do not edit.

Each setting has a default that works. Four places can change it; a later one wins:

1. the default below,
2. the file `intramuros.toml` in the state directory, for example `port = 9443`,
3. an environment variable: the name in capitals after `INTRAMUROS_`, for example `INTRAMUROS_PORT=9443`,
4. a flag of the command, where it has one.

An unknown key or a value out of range stops the start with one line that names the file, the variable or the flag.
The settings are read once, when the daemon starts: after a change run `intramuros down` and `intramuros up`. Sizes
are bytes, durations are seconds. No secret is a setting: secrets are files below `secrets/` in the state directory,
readable by their owner alone.
"""


def page() -> str:
    """Return the page as it should be."""
    return "\n".join([_TOP, *table(fields_of(SOURCE, "Settings")), ""])


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
