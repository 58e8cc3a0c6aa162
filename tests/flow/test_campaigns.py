"""Runs that consist of runs, on a real box whose daemon is killed in the middle of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.box import Box, Refused, running_box, wait_for

RECIPE = """\
recipe: seed
corpus: handbook@1
with: {layers: 1, hidden_size: 32, intermediate_size: 64, vocabulary: 300, steps: 30, checkpoint_seconds: 0}
"""
SEARCH = """\
recipe:
  recipe: seed
  corpus: handbook
  with: {layers: 1, hidden_size: 32, intermediate_size: 64, vocabulary: 300, steps: 30, checkpoint_seconds: 0}
space:
  learning_rate: {low: 1e-4, high: 1e-2, log: true}
trials: 2
batch: 1
seed: 4
"""
PIPELINE = """\
pipeline: handbook
steps:
  - import: {source: "example:handbook", name: handbook}
  - train:
      recipe: seed
      corpus: "${import.ref}"
      seed: 9
      with: {layers: 1, hidden_size: 32, intermediate_size: 64, vocabulary: 300, steps: 30, checkpoint_seconds: 0}
  - register: {run: "${train.run}", name: handbook}
  - promote: {model: "${register.ref}", to: prod}
"""
GATES = """\
[dev]
parity = false
[test]
parity = false
[prod]
parity = false
approvals = 1
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with running_box(tmp_path_factory.mktemp("box")) as started:
        started.verb("dataset", "import", "example:handbook", "--name", "handbook")
        started.paths.gates.write_text(GATES)
        yield started


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def campaign(box: Box, kind: str, name: str) -> Any:
    return box.verb(kind, "show", name)


def kill_daemon_while_training(box: Box) -> None:
    """Kill -9 the daemon and the job that trains, so that both have to be found again."""
    wait_for(lambda: _trains(box), what="a job trains", timeout=120)
    before = box.daemon_pid()
    assert box.kill("daemon")
    box.kill("job-")
    wait_for(lambda: box.daemon_pid() not in (None, before), what="the daemon is back")


def _trains(box: Box) -> bool:
    running = [job for job in box.verb("job", "list") if job["state"] == "running" and job["kind"] == "train.seed"]
    return any(job.get("progress", {}).get("phase") == "train" for job in running if job.get("progress"))


def rested(box: Box, kind: str, name: str) -> Any:
    """Return a campaign once it has ended or waits for a person."""

    def state() -> Any:
        found = campaign(box, kind, name)
        return found if found["campaign"]["state"] not in ("running",) else None

    return wait_for(state, what=f"the {kind} rests", timeout=200)


@pytest.mark.slow
def test_a_search_makes_the_same_trials_although_the_daemon_and_a_trial_were_killed(box: Box, tmp_path: Path) -> None:
    file = written(tmp_path, "search.yaml", SEARCH)
    disturbed = box.verb("search", "run", file, "--detach")["id"]
    kill_daemon_while_training(box)
    first = rested(box, "search", disturbed)
    assert first["campaign"]["state"] == "succeeded", first
    again = box.verb("search", "run", file)
    assert [(step["spec"], step["outcome"]["value"]) for step in again["steps"]] == [
        (step["spec"], step["outcome"]["value"]) for step in first["steps"]
    ]
    best = first["campaign"]["summary"]
    cheapest = written(tmp_path, "best.yaml", best["recipe"])
    assert box.verb("train", "run", cheapest)["id"] == best["job"]
    parents = {job["id"]: job["parent"] for job in box.verb("job", "list")}
    assert parents[first["steps"][0]["job"]] == disturbed


@pytest.mark.slow
def test_a_cross_validation_survives_the_daemon(box: Box, tmp_path: Path) -> None:
    name = box.verb("kfold", "run", written(tmp_path, "recipe.yaml", RECIPE), "-k", "2", "--detach")["id"]
    kill_daemon_while_training(box)
    found = rested(box, "kfold", name)
    assert found["campaign"]["state"] == "succeeded", found
    spread = found["campaign"]["summary"]["metrics"]["heldout_loss"]
    assert len(set(spread["values"])) == 2
    assert spread["low"] < spread["mean"] < spread["high"]


@pytest.mark.slow
def test_a_pipeline_survives_the_daemon_waits_for_an_approval_and_its_run_can_be_proven(
    box: Box, tmp_path: Path
) -> None:
    name = box.verb("pipeline", "run", written(tmp_path, "pipeline.yaml", PIPELINE), "--detach")["id"]
    kill_daemon_while_training(box)
    waiting = rested(box, "pipeline", name)
    assert waiting["campaign"]["state"] == "waiting", waiting
    key = tmp_path / "bob.key"
    box.verb("approver", "create", "bob", "--key", str(key))
    box.verb("model", "approve", "handbook@1", "--to", "prod", "--approver", "bob", "--key", str(key))
    done = wait_for(
        lambda: (found := campaign(box, "pipeline", name))["campaign"]["state"] == "succeeded" and found,
        what="the pipeline goes on",
    )
    assert box.verb("model", "show", "handbook@1")["model"]["stage"] == "prod"
    verdict = box.verb("run", "rerun", done["steps"][1]["job"], "--verify")
    assert verdict["identical"]
    shown = box.verb("model", "show", "handbook@1")["verifications"]
    assert [(item["identical"], item["run"]) for item in shown] == [(True, done["steps"][1]["job"])]


def test_cancelling_takes_the_jobs_along(box: Box, tmp_path: Path) -> None:
    recipe = RECIPE.replace("steps: 30", "steps: 100000")
    name = box.verb("kfold", "run", written(tmp_path, "long.yaml", recipe), "-k", "3", "--detach")["id"]
    wait_for(lambda: _trains(box), what="a job trains", timeout=120)
    box.verb("kfold", "cancel", name)
    jobs = {job["id"]: job for job in box.verb("job", "list") if job["parent"] == name}
    assert len(jobs) == 3
    wait_for(
        lambda: all(box.verb("job", "show", job)["job"]["state"] == "cancelled" for job in jobs),
        what="all have stopped",
    )
    assert campaign(box, "kfold", name)["campaign"]["state"] == "cancelled"


@pytest.mark.parametrize(
    ("verb", "text", "code"),
    [
        ("search", SEARCH.replace("learning_rate:", "velocity:"), "search.file"),
        ("search", "- a\n", "search.file"),
        ("pipeline", PIPELINE.replace("${train.run}", "${train.walk}"), "pipeline.file"),
        ("pipeline", PIPELINE + "schedule: daily 02:00\n", "pipeline.not_yet"),
        ("pipeline", "a: &x 1\nb: *x\n", "yaml.invalid"),
        ("kfold", RECIPE.replace("handbook@1", "absent"), "dataset.unknown"),
    ],
)
def test_a_file_with_a_fault_is_refused_with_one_line(
    box: Box, tmp_path: Path, verb: str, text: str, code: str
) -> None:
    before = len(box.verb(verb, "list"))
    with pytest.raises(Refused) as refused:
        box.verb(verb, "run", written(tmp_path, "file.yaml", text))
    assert refused.value.code == code
    assert len(box.verb(verb, "list")) == before
