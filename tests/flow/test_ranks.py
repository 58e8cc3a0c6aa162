"""One run on two ranks, on a real box: a rank, the whole job and a cancellation, and still the same bytes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.box import Box, processes_with, running_box, wait_for
from tests.factories.tiny_llama import make_tiny_llama

RECIPE = """\
recipe: full
base: tiny@1
data: faq@1
with: {epochs: 2, max_length: 96, checkpoint_seconds: 0, ranks: 2}
"""


@pytest.fixture
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    tiny = tmp_path_factory.mktemp("tiny") / "hf"
    make_tiny_llama(tiny)
    with running_box(tmp_path_factory.mktemp("box")) as started:
        started.verb("model", "import", str(tiny), "--name", "tiny", "--licence", "Apache-2.0")
        started.verb("dataset", "import", "example:faq", "--name", "faq")
        yield started


def ranks_of(box: Box, job: str) -> list[int]:
    """Return the processes of a job's ranks."""
    return processes_with(b"appliance.training.ranks.rank_task", os.fsencode(str(box.paths.job(job))))


def wait_for_step(box: Box, job: str, step: int) -> None:
    def sealed() -> bool:
        names = [path.name for path in (box.paths.job(job) / "checkpoints" / "rank-1").glob("step-*[0-9]")]
        return any(int(name.removeprefix("step-")) >= step for name in names)

    wait_for(sealed, what=f"the checkpoint of step {step}", timeout=200)


@pytest.mark.slow
def test_a_run_on_two_ranks_survives_a_rank_its_job_a_cancellation_and_a_failure(box: Box, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    job = box.verb("train", "run", str(tmp_path / "recipe.yaml"), "--detach")["id"]
    wait_for_step(box, job, 10)
    os.kill(ranks_of(box, job)[-1], signal.SIGKILL)
    wait_for_step(box, job, 40)
    before = ranks_of(box, job)
    box.kill("job-")
    wait_for(lambda: not set(before) & set(ranks_of(box, job)), what="no rank outlives its job")
    wait_for_step(box, job, 70)
    box.verb("job", "cancel", job)
    wait_for(lambda: box.job(job).state == "cancelled", what="it has saved and stopped", timeout=60)
    assert ranks_of(box, job) == []
    seals = box.paths.job(job) / "checkpoints" / "rank-1"
    seals.rename(tmp_path / "seals")
    seals.touch()  # this rank alone cannot save, while the other one waits for it
    box.verb("job", "resume", job, "--detach")
    wait_for(lambda: box.job(job).state == "failed", what="one rank's failure is the job's", timeout=100)
    problem = box.job(job).problem
    assert problem is not None
    assert "rank-1" in problem.message
    seals.unlink()
    (tmp_path / "seals").rename(seals)
    box.verb("job", "resume", job)
    shown = box.verb("run", "show", job)
    assert shown["job"]["state"] == "succeeded"
    assert shown["metrics"]["ranks"] == 2
    assert box.verb("run", "rerun", job, "--verify")["identical"]
