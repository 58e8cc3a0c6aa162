"""Who looks on when a run goes on in a terminal, and who is asked for the recovery key.

Unattended, the key is written to a file that the caller named and has to carry away; without such a file and without a
terminal nothing is encrypted, because the key would be known to nobody.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from appliance.kernel.errors import BadInput, Conflict, storage_errors
from installer.cli.output import Narrator, say
from installer.events import StepEvent
from installer.storage.recovery_key import confirm, generate


class TerminalHooks:
    """Hooks of a run on the command line. Ctrl-C and SIGTERM end it in order; a lost terminal does not end it."""

    def __init__(self, narrator: Narrator, *, recovery_key_out: Path | None) -> None:
        self._narrator = narrator
        self._recovery_key_out = recovery_key_out
        self._stop = False

    def listen(self) -> None:
        """Take over the signals of this process."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def event(self, event: StepEvent) -> None:
        """Render an event."""
        self._narrator.tell(event)

    def cancelled(self) -> bool:
        """Tell whether somebody asked to stop."""
        return self._stop

    def recovery_key(self) -> str:
        """Make a key and return it once it is written down. Raises BadInput or Conflict."""
        key = generate()
        if self._recovery_key_out is not None:
            _write_once(self._recovery_key_out, key)
            say(f"The recovery key is in {self._recovery_key_out}: carry it away and remove the file.")
            return key
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise BadInput(
                "install.recovery_key",
                "The recovery key of the data volume can be shown to nobody: this is no terminal.",
                hint="Name a file for it: --recovery-key-out FILE (best on another medium).",
            )
        confirm(key, _Terminal())
        return key

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True


class _Terminal:
    """Shows the key on the terminal and asks for two groups of it."""

    def show(self, key: str) -> None:
        groups = key.split("-")
        half = len(groups) // 2
        click.echo("\nThe recovery key opens the data volume when nothing else does. Write it down now;", err=True)
        click.echo("it is never shown again.\n", err=True)
        for row in (groups[:half], groups[half:]):
            click.echo("    " + "-".join(row), err=True)
        click.echo("", err=True)

    def typed(self, group: int) -> str:
        answer: str = click.prompt(f"Group {group} of the key", err=True)
        return answer


def _write_once(path: Path, key: str) -> None:
    with storage_errors(f"writing the recovery key to {path}"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileExistsError as error:
            raise Conflict(
                "install.recovery_key_exists",
                f"{path} exists already; a recovery key never replaces a file.",
                hint="It may be the key of an earlier installation. Name another file.",
            ) from error
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(key + "\n")
            stream.flush()
            os.fsync(stream.fileno())
