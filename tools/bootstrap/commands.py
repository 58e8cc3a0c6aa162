"""Runs one program for set-up: output to the log, a sign of life for people, one clear line when it fails."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.bootstrap.narration import SetupFailure, say

_COMPILER = re.compile(r": (fatal )?error: ")
_SIGN_OF_LIFE = 30.0
"""Seconds between two lines while a long program runs."""


def run(
    argv: Sequence[str | Path],
    *,
    log: Path,
    failure: str,
    hint: str = "",
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end. Raises SetupFailure with `failure`, its last error line and the log's place."""
    words = [str(word) for word in argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        begin = stream.tell()
        stream.write(f"$ {' '.join(words)}\n".encode())
        stream.flush()
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=directory,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            raise SetupFailure(f"{failure}: {error}.", hint=hint) from error
        status = _wait(process)
    if status != 0:
        with log.open("rb") as stream:
            stream.seek(begin)
            reason = last_error(stream.read().decode(errors="replace"))
        raise SetupFailure(f"{failure}: {reason}", hint=f"{hint} Everything it said is in {log}.".strip())


def last_error(output: str) -> str:
    """Pick the line of a program's output that says best why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("$ ")]
    compiler = [line for line in lines if _COMPILER.search(line)]
    installer = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    # The first thing a compiler finds is the cause; the last thing pip says is the outcome.
    chosen = [*compiler[:1], *installer[-1:], *lines[-1:], "it said nothing"]
    return chosen[0].rstrip(".") + "."


def _wait(process: subprocess.Popen[bytes]) -> int:
    elapsed = 0.0
    while True:
        try:
            return process.wait(timeout=_SIGN_OF_LIFE)
        except subprocess.TimeoutExpired:
            elapsed += _SIGN_OF_LIFE
            say(f"  still working, {elapsed:.0f} s so far")
        except BaseException:
            process.terminate()
            process.wait()
            raise
