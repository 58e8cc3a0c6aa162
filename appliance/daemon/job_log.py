"""Reads the event log that a job process appends to: numbered pages for clients, the newest progress for lists."""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.api.types import JobEvent
from appliance.kernel.events import CheckpointSaved, Event, Progress

_PAGE = 1000


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    event: Event


_decoder = msgspec.json.Decoder(_Line)


class JobLog:
    """The log of one job, read incrementally; a line counts only once its newline is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.events: list[JobEvent] = []
        self.progress: Progress | None = None
        self.checkpoint_step = 0

    def refresh(self) -> bool:
        """Read what was appended; tell whether there was anything."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return False
        if size < self._offset:
            # A restarted job cut off the half line that its predecessor had left.
            self._offset, self.events = 0, []
        if size == self._offset:
            return False
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        whole = data.rfind(b"\n") + 1
        for text in data[:whole].splitlines():
            line = _decoder.decode(text)
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
