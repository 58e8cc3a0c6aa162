"""Runs that consist of runs, on a real box whose daemon is killed in the middle of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from appliance.api.client import Client
from tests.factories.box import Box, Refused, running_box, wait_for
from tests.factories.tiny_llama import make_tiny_llama

T = TypeVar("T")

RECIPE = """\
recipe: full
base: tiny@1
data: faq@1
with: {epochs: 2, max_length: 96, checkpoint_seconds: 0}
"""
SEARCH = """\
recipe:
  recipe: full
  base: tiny
  data: faq
  with: {epochs: 2, max_length: 96, checkpoint_seconds: 0}
space:
  learning_rate: {low: 1e-4, high: 1e-2, log: true}
trials: 2
batch: 1
seed: 4
"""
PIPELINE = """\
pipeline: faq
steps:
  - import: {source: "example:faq", name: faq}
  - train:
      recipe: full
      base: tiny@1
      data: "${import.ref}"
      seed: 9
      with: {epochs: 2, max_length: 96, checkpoint_seconds: 0}
  - register: {run: "${train.run}", name: answers}
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
    tiny = tmp_path_factory.mktemp("tiny") / "hf"
    make_tiny_llama(tiny)
    with running_box(tmp_path_factory.mktemp("box")) as started:
        started.verb("model", "import", str(tiny), "--name", "tiny", "--licence", "Apache-2.0")
        started.verb("dataset", "import", "example:faq", "--name", "faq")
        started.paths.gates.write_text(GATES)
        yield started


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def ask(box: Box, call: Call[T]) -> T:
    """Ask the daemon from within this process: cheaper than a verb where one asks again and again."""
    with Client(box.paths.control_socket, patience=60.0) as client:
        return client.send(call)


def campaign(box: Box, name: str) -> t.CampaignDetail:
    return ask(box, calls.campaign(name))


def kill_daemon_while_training(box: Box) -> None:
    """Kill -9 the daemon and the job that trains, so that both have to be found again."""
    wait_for(lambda: _trains(box), what="a job trains", timeout=120)
    before = box.daemon_pid()
    assert box.kill("daemon")
    box.kill("job-")
    wait_for(lambda: box.daemon_pid() not in (None, before), what="the daemon is back")
    box.verb("status")  # waits until it answers


def _trains(box: Box) -> bool:
    jobs = [job for job in ask(box, calls.jobs()) if job.kind == "train.full" and job.state == "running"]
    return any(job.progress is not None and job.progress.phase == "train" for job in jobs)


def rested(box: Box, name: str) -> t.CampaignDetail:
    """Return a campaign once it has ended or waits for a person."""
    wait_for(lambda: campaign(box, name).campaign.state != "running", what="it rests", timeout=400)
    return campaign(box, name)


@pytest.mark.slow
def test_a_search_makes_the_same_trials_although_the_daemon_and_a_trial_were_killed(box: Box, tmp_path: Path) -> None:
    file = written(tmp_path, "search.yaml", SEARCH)
    disturbed = box.verb("search", "run", file, "--detach")["id"]
    kill_daemon_while_training(box)
    first = rested(box, disturbed)
    assert first.campaign.state == "succeeded", first
    again = box.verb("search", "run", file)
    assert [(step["spec"], step["outcome"]["value"]) for step in again["steps"]] == [
        (step.spec, step.outcome["value"]) for step in first.steps
    ]
    best = first.campaign.summary
    cheapest = written(tmp_path, "best.yaml", best["recipe"])
    assert box.verb("train", "run", cheapest)["id"] == best["job"]
    parents = {job.id: job.parent for job in ask(box, calls.jobs())}
    assert parents[first.steps[0].job] == disturbed


@pytest.mark.slow
def test_a_cross_validation_survives_the_daemon(box: Box, tmp_path: Path) -> None:
    name = box.verb("kfold", "run", written(tmp_path, "recipe.yaml", RECIPE), "-k", "2", "--detach")["id"]
    kill_daemon_while_training(box)
    found = rested(box, name)
    assert found.campaign.state == "succeeded", found
    spread = found.campaign.summary["metrics"]["heldout_loss"]
    assert len(set(spread["values"])) == 2
    assert spread["low"] < spread["mean"] < spread["high"]


@pytest.mark.slow
def test_a_pipeline_survives_the_daemon_waits_for_an_approval_and_its_run_can_be_proven(
    box: Box, tmp_path: Path
) -> None:
    name = box.verb("pipeline", "run", written(tmp_path, "pipeline.yaml", PIPELINE), "--detach")["id"]
    kill_daemon_while_training(box)
    waiting = rested(box, name)
    assert waiting.campaign.state == "waiting", waiting
    key = tmp_path / "bob.key"
    box.verb("approver", "add", "bob", "--key", str(key))
    box.verb("model", "approve", "answers@1", "--to", "prod", "--approver", "bob", "--key", str(key))
    wait_for(lambda: campaign(box, name).campaign.state == "succeeded", what="the pipeline goes on")
    run = campaign(box, name).steps[1].job
    assert box.verb("model", "show", "answers@1")["model"]["stage"] == "prod"
    verdict = box.verb("run", "rerun", run, "--verify")
    assert verdict["identical"]
    shown = box.verb("model", "show", "answers@1")["verifications"]
    assert [(item["identical"], item["run"]) for item in shown] == [(True, run)]


def test_cancelling_takes_the_jobs_along(box: Box, tmp_path: Path) -> None:
    recipe = RECIPE.replace("epochs: 2", "epochs: 5000")
    name = box.verb("kfold", "run", written(tmp_path, "long.yaml", recipe), "-k", "3", "--detach")["id"]
    wait_for(lambda: _trains(box), what="a job trains", timeout=120)
    box.verb("kfold", "cancel", name)
    wait_for(lambda: _states(box, name) == ["cancelled"] * 3, what="all have stopped")
    assert campaign(box, name).campaign.state == "cancelled"


def _states(box: Box, name: str) -> list[str]:
    return [job.state for job in ask(box, calls.jobs()) if job.parent == name]


@pytest.mark.parametrize(
    ("verb", "text", "code"),
    [
        ("search", SEARCH.replace("learning_rate:", "velocity:"), "search.file"),
        ("search", "- a\n", "search.file"),
        ("pipeline", PIPELINE.replace("${train.run}", "${train.walk}"), "pipeline.file"),
        ("pipeline", PIPELINE + "schedule: daily 02:00\n", "pipeline.not_yet"),
        ("pipeline", "a: &x 1\nb: *x\n", "yaml.invalid"),
        ("kfold", RECIPE.replace("faq@1", "absent"), "dataset.unknown"),
    ],
)
def test_a_file_with_a_fault_is_refused_with_one_line(
    box: Box, tmp_path: Path, verb: str, text: str, code: str
) -> None:
    before = len(ask(box, calls.campaigns(kind=verb)))
    with pytest.raises(Refused) as refused:
        box.verb(verb, "run", written(tmp_path, "file.yaml", text))
    assert refused.value.code == code
    assert len(ask(box, calls.campaigns(kind=verb))) == before
