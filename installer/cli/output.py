"""How the installer's verbs print: answers as JSON or text on stdout, progress for people on stderr.

On a terminal one line shows the present task, the fraction and what remains; elsewhere each phase and each change is a
line of its own. With --json every event is one line of JSON on stdout, so that another program can follow.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import click
import msgspec

from appliance.kernel.errors import Forbidden
from appliance.kernel.terminal import harmless, table
from installer.events import (
    Failed,
    Note,
    PhaseDone,
    PhaseSkipped,
    PhaseStarted,
    Progress,
    StepEvent,
    TaskDone,
    TaskStarted,
)
from installer.findings import Finding

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show(value: Any, text: Callable[[], str], *, as_json: bool) -> None:
    """Print an answer."""
    click.echo(msgspec.json.encode(value).decode() if as_json else harmless(text()))


def findings_document(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return findings as plain data."""
    return [{"level": f.level.value, "what": f.what, "found": f.found, "hint": f.hint} for f in findings]


def findings_table(findings: Sequence[Finding]) -> str:
    """Return findings for a person."""
    rows = [(f.level.value, f.what, f.found, f.hint) for f in findings]
    return table(("", "WHAT", "FOUND", "WHAT TO DO"), rows, empty="nothing was checked")


def require_root(doing: str) -> None:
    """Refuse anybody but root. Raises Forbidden."""
    if os.geteuid() != 0:
        raise Forbidden("install.root", f"Only root can {doing}.", hint="Run the same command with sudo.")


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


class Narrator:
    """Renders events. A terminal that is gone, such as after a firewall change, does not stop the run."""

    def __init__(
        self, *, as_json: bool, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._as_json = as_json
        self._stream = stream if stream is not None else (sys.stdout if as_json else sys.stderr)
        self._live = not as_json and self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._fraction = 0.0
        self._eta: float | None = None
        self._gone = False
        self._clock = clock
        self._shown_at = 0.0

    def tell(self, event: StepEvent) -> None:
        """Render one event."""
        if self._gone:
            return
        try:
            if self._as_json:
                self._stream.write(msgspec.json.encode(event).decode() + "\n")
            else:
                self._people(event)
            self._stream.flush()
        except (OSError, ValueError):  # closed under us: the run matters more, and runs/ has every event
            self._gone = True

    def _people(self, event: StepEvent) -> None:
        match event:
            case Progress():
                self._fraction, self._eta = event.fraction, event.eta_seconds
            case TaskStarted():
                self._live_line(f"{event.role + ': ' if event.role else ''}{event.task}")
            case TaskDone(outcome="changed"):
                if not self._live:
                    self._line(f"  changed  {event.role + ': ' if event.role else ''}{event.task}")
            case PhaseStarted():
                self._line(f"[{event.number}/{event.phases}] {event.phase}: {event.title}")
            case PhaseDone():
                self._line(
                    f"  {event.phase}: {event.ok} ok, {event.changed} changed, {event.skipped} skipped,"
                    f" {duration(event.seconds)}"
                )
            case PhaseSkipped():
                self._line(f"  {event.phase}: not run, {event.reason}")
            case Failed():
                self._line(f"  FAILED {event.line}")
            case Note():
                self._line(event.text)
            case _:
                pass

    def _line(self, text: str) -> None:
        self._stream.write(("\r\x1b[K" if self._live else "") + harmless(text) + "\n")

    def _live_line(self, text: str) -> None:
        if not self._live or self._clock() - self._shown_at < 0.2:  # a serial line is slow
            return
        self._shown_at = self._clock()
        tail = f" ({duration(self._eta)} left)" if self._eta is not None else ""
        line = f"{self._fraction:4.0%}{tail} {harmless(text)}"
        self._stream.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])


def say(line: str) -> None:
    """Tell a person something that is not the answer; a terminal that is gone is no failure."""
    with contextlib.suppress(OSError):
        click.echo(harmless(line), err=True)
