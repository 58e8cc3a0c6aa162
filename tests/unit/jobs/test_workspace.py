from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.events import Metric, Note, Progress
from tests.factories.job_workspace import make_workspace
from tests.factories.stop_signals import ask_to_stop, listening


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    opened = make_workspace(tmp_path / "job", JobKind.EVALUATE, inputs={})
    yield opened
    opened.close()


def written(workspace: Workspace) -> list[dict[str, object]]:
    lines = (workspace.directory / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_progress_is_thinned_but_its_end_is_always_told(workspace: Workspace) -> None:
    for step in range(1000):
        workspace.emit(Progress(phase="training", step=step, fraction=step / 1000))
    workspace.emit(Progress(phase="training", step=1000, fraction=1.0))
    steps = [event["step"] for event in written(workspace) if "step" in event]
    assert len(written(workspace)) < 20
    assert steps[-1] == 1000


def test_everything_but_progress_is_written_at_once(workspace: Workspace) -> None:
    for number in range(10):
        workspace.emit(Note(text=str(number)))
        workspace.emit(Metric(name="loss", value=float(number)))
        assert len(written(workspace)) == 2 * (number + 1)


def test_nothing_asks_to_stop_before_the_signal(workspace: Workspace) -> None:
    assert not workspace.stop_requested()


def test_a_stop_is_raised_at_once_but_where_something_is_saved(workspace: Workspace) -> None:
    done: list[str] = []

    def work() -> None:
        with workspace.interruptible():
            with workspace.saving():
                ask_to_stop()
                done.append("saved")
            done.append("went on")

    with listening(workspace), pytest.raises(Interrupted):
        work()
    assert done == ["saved"]


def test_a_stop_that_was_swallowed_is_raised_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.jobs.workspace._AGAIN", 0.05)

    def work() -> None:
        with workspace.interruptible():
            with contextlib.suppress(Interrupted):  # as a callback from C does
                ask_to_stop()
            time.sleep(5)

    with listening(workspace), pytest.raises(Interrupted):
        work()


def test_a_stop_behind_the_work_is_only_remembered(workspace: Workspace) -> None:
    with listening(workspace):
        with workspace.interruptible():
            pass
        ask_to_stop()
        assert workspace.stop_requested()
