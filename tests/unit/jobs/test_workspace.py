from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Workspace
from appliance.kernel.events import Metric, Note, Progress
from tests.factories.job_workspace import make_workspace


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
