"""Runs verbs as separate processes, as a user's shell would, and keeps the record of every step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance.kernel.errors import InternalError, IntramurosError
from appliance.kernel.problem import Problem, error_of

_VERB_TIMEOUT = 1800.0


class Step(msgspec.Struct, kw_only=True):
    """One step as the summary tells it."""

    title: str
    commands: list[str] = []
    seconds: float = 0.0
    ok: bool = False
    figures: dict[str, Any] = {}


class Walk:
    """The tour's record and its only way to act."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.steps: list[Step] = []
        self._began = 0.0

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Time a step and print its heading; it is ok when its block ends without an error."""
        step = Step(title=title)
        self.steps.append(step)
        click.echo(f"\n[{len(self.steps):2}] {title}", err=True)
        began = time.monotonic()
        try:
            yield step
            step.ok = True
        finally:
            step.seconds = round(time.monotonic() - began, 2)

    def verb(self, *arguments: str, state: Path | None = None) -> Any:
        """Run one verb with --json and return its answer. Raises the error that the verb reported."""
        finished = self._run(arguments, state)
        if finished.returncode != 0:
            raise _error(finished)
        return json.loads(finished.stdout)

    def refused(self, code: str, *arguments: str) -> str:
        """Run a verb that must be refused with that code; return the message."""
        finished = self._run(arguments, None)
        if finished.returncode == 0:
            raise InternalError("tour.not_refused", f"`intramuros {' '.join(arguments)}` should have been refused.")
        error = _error(finished)
        if error.code != code:
            raise error
        click.echo(f"     refused, as it should be: {error.message}", err=True)
        return error.message

    def end_user(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the end user's client program; the official `openai` package does the talking."""
        self._announce(["python", "-m", "appliance.tour.end_user", *arguments])
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "appliance.tour.end_user", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )

    def program(self, *argv: str) -> str:
        """Run any other program that a user would type; return its output."""
        self._announce(list(argv))
        finished = subprocess.run(argv, capture_output=True, text=True, timeout=_VERB_TIMEOUT, check=False)
        if finished.returncode != 0:
            raise InternalError("tour.program", f"{argv[0]} failed: {finished.stderr.strip() or finished.stdout}")
        return finished.stdout

    def _run(self, arguments: Sequence[str], state: Path | None) -> subprocess.CompletedProcess[str]:
        self._announce(["intramuros", *arguments, *(("--state", str(state)) if state else ())])
        argv = [sys.executable, "-I", "-m", "appliance.cli.main", *arguments]
        process = subprocess.Popen(
            [*argv, "--json", "--state", str(state or self.state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if not line.startswith("{"):
                click.echo(f"     {line.rstrip()}", err=True)
        answer = process.communicate(timeout=_VERB_TIMEOUT)[0]
        return subprocess.CompletedProcess(argv, process.returncode, answer, "".join(said))

    def _announce(self, argv: list[str]) -> None:
        text = " ".join(_quoted(part) for part in argv)
        if self.steps:
            self.steps[-1].commands.append(text)
        click.echo(f"   $ {text}", err=True)


def _quoted(part: str) -> str:
    return f'"{part}"' if " " in part else part


def _environment() -> dict[str, str]:
    return {**os.environ, "INTRAMUROS_PATIENCE": "60"}


def _error(finished: subprocess.CompletedProcess[str]) -> IntramurosError:
    for line in reversed(finished.stderr.splitlines()):
        if line.startswith("{"):
            return error_of(msgspec.json.decode(line, type=Problem))
    return InternalError("tour.verb", f"{' '.join(finished.args)} ended with status {finished.returncode}.")
