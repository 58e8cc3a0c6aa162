"""How events are rendered, and what a lost terminal does: nothing."""

from __future__ import annotations

import io

import msgspec
import pytest

from installer.cli.output import Narrator, duration
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

_STORY: list[StepEvent] = [
    Note(text="hello \x1b]0;title\x07"),
    PhaseStarted(phase="ground", title="Accounts", number=1, phases=2, tasks=2),
    TaskStarted(phase="ground", role="base", task="Make the account"),
    TaskDone(phase="ground", role="base", task="Make the account", outcome="changed"),
    Progress(phase="ground", fraction=0.5, eta_seconds=90.0),
    TaskStarted(phase="ground", role="base", task="Look"),
    TaskDone(phase="ground", role="base", task="Look", outcome="ok"),
    PhaseDone(phase="ground", seconds=61.0, ok=2, changed=1, skipped=0),
    PhaseSkipped(phase="storage", reason="storage.mode is not luks"),
    Failed(phase="record", line="it broke"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _tell(stream: io.StringIO, *, as_json: bool = False) -> str:
    times = iter(range(100))
    narrator = Narrator(as_json=as_json, stream=stream, clock=lambda: float(next(times)))
    for event in _STORY:
        narrator.tell(event)
    return stream.getvalue()


def test_plain_lines_without_a_terminal() -> None:
    assert _tell(io.StringIO()).splitlines() == [
        "hello �]0;title�",
        "[1/2] ground: Accounts",
        "  changed  base: Make the account",
        "  ground: 2 ok, 1 changed, 0 skipped, 1 min 01 s",
        "  storage: not run, storage.mode is not luks",
        "  FAILED it broke",
    ]


def test_one_living_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "linux")
    text = _tell(Terminal())
    assert "\r\x1b[K 50% (1 min 30 s left) base: Look" in text
    assert "changed  base" not in text
    assert text.endswith("\r\x1b[K  FAILED it broke\n")


def test_json_lines_are_the_events() -> None:
    lines = _tell(io.StringIO(), as_json=True).splitlines()
    assert [msgspec.json.decode(line, type=StepEvent) for line in lines] == _STORY


def test_a_lost_terminal_stops_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    assert _tell(Gone()) == ""


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.4, 60, 3599)] == ["0 s", "59 s", "1 min 00 s", "59 min 59 s"]
