"""A full disk and a read-only one, for real: the state lies on a small tmpfs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.jobs.spec import JobKind
from appliance.kernel.errors import StorageFailure
from benchmarks import job_runs
from benchmarks.processes import free_port
from tests.factories.box import Box, Refused, run_verb, running_box, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted tmpfs of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Use up every free byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while stream.write(b"\0" * 4096):
                pass
        except OSError:
            return ballast
    return ballast


def create_keys(box: Box, folder: Path, number: int) -> None:
    """Create keys n0, n1, …; the first few may still fit into pages that the database holds."""
    for name in (f"n{n}" for n in range(number)):
        box.verb("key", "create", name, "--out", str(folder / name))


def test_a_full_disk_refuses_changes_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    with running_box(small_disk / "state") as box:
        box.verb("key", "create", "first", "--out", str(small_disk / "key"))
        ballast = fill(small_disk)
        with pytest.raises(Refused) as refused:
            create_keys(box, tmp_path, 200)
        assert (refused.value.code, refused.value.status) == ("storage.full", 8)
        kept = {item["name"] for item in box.verb("key", "list")}
        assert kept == {"first", *(path.name for path in tmp_path.glob("n*"))}
        ballast.unlink()
        box.verb("key", "create", "second", "--out", str(small_disk / "key2"))
        assert {item["name"] for item in box.verb("key", "list")} >= {"first", "second"}
        assert box.verb("audit", "verify")["ok"]


def test_a_job_that_finds_the_disk_full_fails_with_that_reason(small_disk: Path, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"question": f"q{n} " + "x" * 900, "answer": f"a{n}"}) + "\n" for n in range(30_000))
    (tmp_path / "big.jsonl").write_text(rows)
    with running_box(small_disk / "state") as box:
        with pytest.raises(Refused) as refused:
            box.verb("dataset", "import", str(tmp_path / "big.jsonl"), "--name", "big")
        assert refused.value.code == "storage.full"
        assert box.verb("dataset", "list") == []
        job = box.verb("job", "list")[0]
        assert (job["state"], job["problem"]["code"]) == ("failed", "storage.full")
        box.verb("key", "create", "after", "--out", str(tmp_path / "key"))


def test_a_read_only_disk_is_named_at_start(small_disk: Path) -> None:
    with running_box(small_disk / "state"):
        pass
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    wait_for(lambda: subprocess.run(remount, check=False).returncode == 0, what="nothing writes there any more")
    finished = run_verb("up", "--port", str(free_port()), state=small_disk / "state")
    assert finished.returncode == 8
    assert json.loads(finished.stderr.splitlines()[-1])["code"] == "storage.not_writable"


def test_a_disk_that_is_full_at_the_first_start_is_named(small_disk: Path) -> None:
    fill(small_disk)
    finished = run_verb("up", "--port", str(free_port()), state=small_disk / "state")
    assert finished.returncode == 8
    assert json.loads(finished.stderr.splitlines()[-1])["code"].startswith("storage.")


def test_a_daemon_killed_on_a_full_disk_comes_back_by_itself_and_can_be_stopped_there(small_disk: Path) -> None:
    with running_box(small_disk / "state") as box:
        ballast = fill(small_disk)
        daemon = box.daemon_pid()
        assert box.kill("daemon")
        wait_for(lambda: box.daemon_pid() not in (None, daemon), what="the keeper starts another")
        ballast.unlink()
        assert box.verb("status")["units"]
        assert box.verb("audit", "verify")["ok"]
        fill(small_disk)


def test_a_training_job_that_finds_the_disk_full_keeps_its_checkpoints_and_goes_on(
    small_disk: Path, tmp_path: Path
) -> None:
    rows = [json.dumps({"text": f"note {n}: port {n}"}) for n in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    small = {"vocabulary": 300, "hidden_size": 64, "intermediate_size": 64, "layers": 1, "steps": 300}
    job = small_disk / "job"
    job_runs.lay_out(
        job, JobKind.TRAIN_SEED, inputs={"corpus": tmp_path}, parameters=small | {"checkpoint_seconds": 0.0}
    )
    first = job_runs.start(job)
    wait_for(lambda: list(job.glob("checkpoints/step-????????")), what="a checkpoint is sealed", timeout=150)
    ballast = fill(small_disk)
    assert first.wait(60) == StorageFailure.exit_code
    error = job / "error.json"
    assert not error.exists() or json.loads(error.read_text())["code"] == "storage.full"
    kept = sorted(path.name for path in (job / "checkpoints").iterdir())
    assert kept
    assert not any(name.endswith(".tmp") for name in kept)
    ballast.unlink()
    assert job_runs.start(job).wait(150) == 0
    sealed = job_runs.outcome(job)
    assert sealed is not None
    assert sealed.summary["steps"] == 300
    assert f"Going on from the checkpoint of step {int(kept[-1][5:])}." in (job / "events.jsonl").read_text()
