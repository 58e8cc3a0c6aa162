"""What every verb shares: --state and --json, the connection to the daemon, and how answers are printed."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from appliance.api.calls import Call
from appliance.kernel.errors import BadInput
from appliance.kernel.paths import StatePaths, default_state
from appliance.kernel.terminal import harmless

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of one verb."""

    paths: StatePaths
    as_json: bool

    def send(self, call: Call[T]) -> T:
        """Ask the daemon; waits for a while when it is being restarted."""
        from appliance.api.client import (
            Client,  # not for verbs that only work on files: theirs is a smaller environment
        )

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
        type=click.Path(path_type=Path, readable=False),
        default=default_state,
        help="State directory.  [default: $INTRAMUROS_STATE, this box's, or ./var]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
    @functools.wraps(function)
    def wrapped(*args: Any, state: Path, as_json: bool, **options: Any) -> Any:
        session = Session(paths=StatePaths(Path(state).absolute()), as_json=as_json)
        return function(session, *args, **options)

    return wrapped


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
