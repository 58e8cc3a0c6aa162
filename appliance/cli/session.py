"""What every verb shares: --state and --json, the connection to the daemon, and how answers are printed."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from appliance.api.calls import Call
from appliance.api.client import Client
from appliance.kernel.errors import BadInput
from appliance.kernel.paths import StatePaths
from appliance.kernel.terminal import harmless

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of one verb."""

    paths: StatePaths
    as_json: bool

    def send(self, call: Call[T]) -> T:
        """Ask the daemon; waits for a while when it is being restarted."""
        with Client(self.paths.control_socket, patience=_patience()) as client:
            return client.send(call)

    def show(self, value: Any, text: Callable[[], str]) -> None:
        """Print an answer: JSON when asked for, else the text for people."""
        click.echo(msgspec.json.encode(value).decode() if self.as_json else harmless(text()))

    def say(self, line: str) -> None:
        """Tell a person something that is not the answer."""
        click.echo(harmless(line), err=True)


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --state and --json, and hand it a Session as its first argument."""

    @click.option(
        "--state",
        type=click.Path(path_type=Path),
        default=lambda: os.environ.get("INTRAMUROS_STATE", "var"),
        help="State directory.  [default: $INTRAMUROS_STATE or ./var]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
    @functools.wraps(function)
    def wrapped(*args: Any, state: Path, as_json: bool, **options: Any) -> Any:
        session = Session(paths=StatePaths(Path(state).absolute()), as_json=as_json)
        return function(session, *args, **options)

    return wrapped


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> str:
    """Lay out rows in columns; `empty` is what to say when there are none."""
    listed = [tuple(str(cell) for cell in row) for row in rows]
    if not listed:
        return empty
    widths = [max(len(head[i]), *(len(row[i]) for row in listed)) for i in range(len(head))]
    lines = [head, *listed]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def size_text(size: int) -> str:
    """Return bytes in the largest fitting binary unit."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""


def when(text: str) -> str:
    """Return a time without its fraction."""
    return text[:19].replace("T", " ") if text else "-"


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask before something destructive; without a terminal the answer is no unless --yes was given."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return click.confirm(question, default=False, err=True)


def _patience() -> float:
    text = os.environ.get("INTRAMUROS_PATIENCE", "10")
    try:
        return float(text)
    except ValueError as error:
        raise BadInput("cli.patience", f"INTRAMUROS_PATIENCE={text!r} is not a number of seconds.") from error
