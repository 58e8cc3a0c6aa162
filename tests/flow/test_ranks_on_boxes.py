"""One run on two boxes: a rank, a whole box and a cancellation, another box alone, and still the same bytes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.box import Box, Refused, running_box, wait_for
from tests.factories.rank_hosts import RankHosts, rank_hosts
from tests.factories.tiny_llama import make_tiny_llama

RECIPE = """\
recipe: full
base: tiny@1
data: faq@1
with: {{epochs: 2, max_length: 96, checkpoint_seconds: 0, ranks: {ranks}, boxes: [{boxes}]}}
"""


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankHosts]:
    with rank_hosts(tmp_path_factory.mktemp("fleet")) as started:
        yield started


@pytest.fixture
def box(hosts: RankHosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    tiny = tmp_path_factory.mktemp("tiny") / "hf"
    make_tiny_llama(tiny)
    root = tmp_path_factory.mktemp("box")
    (root / "intramuros.toml").write_text(
        f'fleet = "{hosts.inventory("alpha")}"\nrank_sockets = "{hosts.sockets("alpha")}"\n'
    )
    with running_box(root) as started:
        started.verb("model", "import", str(tiny), "--name", "tiny", "--licence", "Apache-2.0")
        started.verb("dataset", "import", "example:faq", "--name", "faq")
        yield started


def newest_step(hosts: RankHosts, name: str, job: str, rank: int) -> int:
    found = (hosts.runs(name) / job / "checkpoints" / f"rank-{rank}").glob("step-*[0-9]")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def wait_for_step(hosts: RankHosts, job: str, step: int) -> None:
    wait_for(lambda: newest_step(hosts, "beta", job, 1) >= step, what=f"the checkpoint of step {step}", timeout=200)


@pytest.mark.slow
def test_a_run_on_two_boxes_survives_a_rank_a_box_and_a_cancellation(
    box: Box, hosts: RankHosts, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(ranks=2, boxes="alpha, beta"))
    job = box.verb("train", "run", str(tmp_path / "recipe.yaml"), "--detach")["id"]
    wait_for_step(hosts, job, 10)
    assert len(hosts.ranks("alpha")) == len(hosts.ranks("beta")) == 1
    os.kill(hosts.ranks("beta")[0], signal.SIGKILL)
    wait_for_step(hosts, job, newest_step(hosts, "beta", job, 1) + 20)
    hosts.kill("beta")
    wait_for(lambda: not hosts.processes("beta"), what="no run outlives its rank host")
    lost_at = newest_step(hosts, "beta", job, 1)
    wait_for(lambda: not hosts.ranks("alpha"), what="the other box stops", timeout=60)
    hosts.start("beta")
    wait_for_step(hosts, job, lost_at + 20)
    box.verb("job", "cancel", job)
    wait_for(lambda: box.job(job).state == "cancelled", what="it has saved and stopped", timeout=60)
    assert not hosts.processes("alpha")
    assert not hosts.processes("beta")
    box.verb("job", "resume", job)
    shown = box.verb("run", "show", job)
    assert shown["job"]["state"] == "succeeded"
    assert (shown["metrics"]["boxes"], shown["metrics"]["ranks"]) == (2, 2)
    assert not list(hosts.runs("alpha").iterdir())
    assert not list(hosts.runs("beta").iterdir())
    assert box.verb("run", "rerun", job, "--verify")["identical"]


@pytest.mark.slow
def test_a_box_that_dies_at_the_end_and_a_job_that_dies_behind_it_cost_nothing_more(
    box: Box, hosts: RankHosts, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(ranks=2, boxes="alpha, beta"))
    job = box.verb("train", "run", str(tmp_path / "recipe.yaml"), "--detach")["id"]
    wait_for((hosts.runs("beta") / job / "result.json").exists, what="the second box has ended", timeout=200)
    hosts.kill("alpha")  # it still writes the model, or has just written it
    hosts.start("alpha")
    wait_for((hosts.runs("alpha") / job / "result.json").exists, what="the first box has ended", timeout=200)
    box.kill("job-")
    hosts.kill("beta")  # nobody needs it any more
    wait_for(lambda: box.job(job).state == "succeeded", what="the model comes home", timeout=100)
    assert not list(hosts.runs("alpha").iterdir())


@pytest.mark.slow
def test_another_box_trains_alone_and_says_what_it_cannot(box: Box, hosts: RankHosts, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(ranks=1, boxes="beta"))
    away = box.verb("train", "run", str(tmp_path / "recipe.yaml"))
    assert away["state"] == "succeeded"
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(ranks=2, boxes=""))
    own = box.verb("train", "run", str(tmp_path / "recipe.yaml"))
    assert (own["summary"]["ranks"], own["summary"]["boxes"]) == (2, 1)
    assert (hosts.root / "alpha" / "ranks" / "runs").is_dir()
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(ranks=1, boxes="gamma"))
    with pytest.raises(Refused, match="no box gamma") as refused:
        box.verb("train", "run", str(tmp_path / "recipe.yaml"))
    assert refused.value.code == "fleet.no_box"
    facts = {entry["name"]: entry for entry in box.verb("fleet")}
    assert facts["beta"]["reachable"]
    hosts.stop("beta")
    facts = {entry["name"]: entry for entry in box.verb("fleet")}
    assert facts["alpha"]["reachable"]
    assert not facts["beta"]["reachable"]
