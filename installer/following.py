"""Follows a run by the events it writes down, whoever runs it: a child of ours, or another console's installer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from installer.events import StepEvent

_POLL = 0.2


def tail(events: Path, ended: Callable[[], bool]) -> Iterator[StepEvent]:
    """Give every event from the beginning of the file until the run has ended and nothing is left to read."""
    offset = 0
    while True:
        over = ended()  # asked before reading: what was written until then is read
        data = _from(events, offset)
        whole = data[: data.rfind(b"\n") + 1]
        offset += len(whole)
        for line in whole.splitlines():
            try:
                yield msgspec.json.decode(line, type=StepEvent)
            except msgspec.DecodeError:
                continue  # a line that a power cut tore, and another was written behind it
        if over:
            return
        time.sleep(_POLL)


def _from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read()
    except FileNotFoundError:
        return b""
