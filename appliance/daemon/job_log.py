"""Reads the event log that a job process appends to: numbered pages for clients, the newest progress for lists.

Numbers never change: whatever a line says, it counts as one event.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from appliance.api.types import JobEvent
from appliance.kernel.events import CheckpointSaved, Event, Note, Progress

_PAGE = 1000


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    event: Event


_decoder = msgspec.json.Decoder(_Line)
_UNREADABLE = _Line(at="", event=Note(text="This line of the log cannot be read."))


class JobLog:
    """The log of one job, read incrementally; a line counts only once its newline is there. Safe in threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reading = threading.Lock()
        self._offset = 0
        self.events: list[JobEvent] = []
        self.progress: Progress | None = None
        self.checkpoint_step = 0

    def refresh(self) -> bool:
        """Read what was appended; tell whether there was anything.

        A half line at the end is not counted, so that a restarted job may cut it off (appliance.jobs.worker).
        """
        with self._reading:
            return self._read_on()

    def _read_on(self) -> bool:
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return False
        whole = data.rfind(b"\n") + 1
        for text in data[:whole].splitlines():
            line = _decoded(text)
            self.events.append(JobEvent(seq=len(self.events) + 1, at=line.at, event=line.event))
            self._note(line.event)
        self._offset += whole
        return whole > 0

    def page(self, after: int) -> tuple[JobEvent, ...]:
        """Return up to a thousand events after number `after`."""
        return tuple(self.events[after : after + _PAGE])

    def _note(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.progress = event
        elif isinstance(event, CheckpointSaved):
            self.checkpoint_step = event.step


def _decoded(text: bytes) -> _Line:
    """Return a line of the log; one that a failing disk or a foreign hand has spoilt is shown as such."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _UNREADABLE
