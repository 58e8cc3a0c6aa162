"""How far a run is: never back, never above one, and what takes long counts for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.pace import SLOW, Pace, named_tasks
from installer.playbooks import Phase, RoleLine, TaskLine, read_book
from tests.quality.sources import ROOT

_SLOW = ("base", "Install the packages")


def phase(name: str, role: str, *tasks: str) -> Phase:
    lines = tuple(TaskLine(name=task) for task in tasks)
    return Phase(name=name, title=name, file=Path(name), roles=(RoleLine(name=role, tasks=lines),))


def test_every_slow_task_is_one_of_the_playbooks() -> None:
    known = {named for one in read_book(ROOT / "playbooks", "site") for named in named_tasks(one)}
    assert not set(SLOW) - known


def test_slow_task_counts_for_its_seconds_and_the_rest_follows_from_the_time_that_passed() -> None:
    pace = Pace([phase("a", *_SLOW, "quick"), phase("b", *_SLOW)], finished=(), now=100.0)
    early = pace.task_done("a", "base", "quick", now=101.0)
    assert (early.fraction < 0.01, early.eta_seconds) == (True, None)
    half = pace.task_done("a", *_SLOW, now=170.0)
    assert half.fraction == pytest.approx(0.5, abs=0.01)
    assert half.eta_seconds == pytest.approx(70.0, abs=1.0)


def test_handlers_never_bring_it_beyond_its_phase() -> None:
    pace = Pace([phase("a", "r", "one"), phase("b", "r", "one")], finished=(), now=0.0)
    assert [pace.task_done("a", "r", "handler", now=1.0).fraction for _ in range(3)] == [0.5, 0.5, 0.5]
    pace.phase_done("a")
    assert pace.task_done("b", "r", "one", now=2.0).fraction == 1.0


def test_resumed_run_counts_its_own_pace_only() -> None:
    pace = Pace([phase("a", *_SLOW), phase("b", *_SLOW), phase("c", *_SLOW)], finished=("a",), now=0.0)
    told = pace.task_done("b", *_SLOW, now=10.0)
    assert told.fraction == pytest.approx(2 / 3, abs=0.001)
    assert told.eta_seconds == 10.0
