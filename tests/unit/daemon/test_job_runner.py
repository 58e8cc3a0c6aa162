from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from appliance.api import types as t
from appliance.daemon import job_runner
from appliance.daemon.job_runner import JobRunner
from appliance.daemon.marks import find
from appliance.daemon.supervisor import Supervisor
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import StorageFailure
from appliance.services import audit, datasets, jobs
from appliance.services.context import Appliance, Context
from appliance.store import schema
from appliance.training.plan import MemoryPlan
from tests.factories.appliance import context, imported_dataset, queue_run

ROWS = b'{"prompt": "a", "answer": "b"}\n{"prompt": "c", "answer": "d"}\n'


def runner_of(appliance: Appliance, prefix: tuple[str, ...] = ()) -> JobRunner:
    supervisor = Supervisor(root=appliance.paths.root, logs=appliance.paths.logs)
    return JobRunner(context(appliance, user="intramurosd"), supervisor, prefix=prefix)


@asynccontextmanager
async def running(appliance: Appliance, prefix: tuple[str, ...] = ()) -> AsyncIterator[JobRunner]:
    """A runner that serves the queue; stopped in order at the end."""
    runner = runner_of(appliance, prefix)
    appliance.doorbell.listen(runner.wake)
    serving = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await runner.stop()


async def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


def _later(appliance: Appliance, days: int) -> datetime:
    return appliance.clock() + timedelta(days=days)


def _plan(*, fits: bool) -> MemoryPlan:
    return MemoryPlan(weights=1, training_state=1, activations=1, process=1, available=4 if fits else 3)


@asynccontextmanager
async def _holding_the_first(
    appliance: Appliance, holding: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[JobRunner, asyncio.Event]]:
    """A runner whose first job does not end before it is released; from when it has begun, `holding` is set."""
    release, run_job = asyncio.Event(), JobRunner._run_job

    async def hold(self: JobRunner, row: Any) -> None:
        if not holding.is_set():
            holding.set()
            await release.wait()
        await run_job(self, row)

    monkeypatch.setattr(JobRunner, "_run_job", hold)
    async with running(appliance) as runner:
        yield runner, release


def import_rows(ctx: Context, tmp_path: Path, data: bytes = ROWS) -> t.JobView:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(data)
    return datasets.import_dataset(ctx, t.ImportDataset(source=str(source), name="faq"))


def state(ctx: Context, job: t.JobView) -> str:
    return jobs.show(ctx, job.id, {}).job.state


async def test_a_queued_job_is_run_settled_and_tidied_up(appliance: Appliance, tmp_path: Path) -> None:
    ctx = context(appliance)
    async with running(appliance) as runner:
        job = import_rows(ctx, tmp_path)
        await runner.wait_for_events(job.id, after=10**6, hold=20)
    view = jobs.show(ctx, job.id, {}).job
    assert (view.state, view.attempt, view.summary["ref"]) == ("succeeded", 1, "faq@1")
    assert {path.name for path in appliance.paths.job(job.id).iterdir()} >= {"spec.json", "result.json"}
    assert not (appliance.paths.job(job.id) / "out").exists()
    assert audit.verify(ctx).ok


async def test_a_job_waits_until_others_have_given_memory_back(
    appliance: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those behind it wait too, and the first one runs whatever others hold."""
    roomy = replace(appliance, settings=msgspec.structs.replace(appliance.settings, parallel_jobs=3))
    ctx, holding, planned = context(roomy), asyncio.Event(), {"fits": False}
    monkeypatch.setattr(job_runner, "plan_of_job", lambda *_: _plan(fits=planned["fits"]) if holding.is_set() else None)
    rows = (ROWS, ROWS * 2, ROWS * 3)
    async with _holding_the_first(roomy, holding, monkeypatch) as (runner, release):
        first, second, third = (import_rows(ctx, tmp_path, data) for data in rows)
        await until(lambda: second.id in runner.progress())
        assert runner.progress()[second.id].phase == "waits for memory"
        await asyncio.sleep(0.2)
        assert (state(ctx, second), state(ctx, third)) == ("queued", "queued")
        planned["fits"] = True
        release.set()
        await until(lambda: {state(ctx, job) for job in (first, second, third)} == {"succeeded"})
        assert second.id not in runner.progress()


async def test_a_job_that_no_longer_fits_beside_serving_is_not_begun(
    appliance: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(appliance)
    monkeypatch.setattr(job_runner, "plan_of_job", lambda *_: _plan(fits=False))
    async with running(appliance):
        job = import_rows(ctx, tmp_path)
        await until(lambda: state(ctx, job) == "failed")
    view = jobs.show(ctx, job.id, {}).job
    assert view.problem is not None
    assert (view.problem.code, view.attempt) == ("training.memory", 0)


def test_only_the_logs_that_were_asked_for_last_stay_in_memory(appliance: Appliance) -> None:
    runner = runner_of(appliance)
    for number in range(40):
        appliance.paths.job(f"job{number}").mkdir(parents=True)
        line = b'{"at": "now", "event": {"type": "note", "text": "%d"}}\n' % number
        (appliance.paths.job(f"job{number}") / "events.jsonl").write_bytes(line)
        assert runner.log(f"job{number}").refresh()
        assert runner.log("job0").page(0)[0].seq == 1
    assert len(runner._logs) < 20
    again = runner.log("job5")
    assert again.refresh()
    assert [event.seq for event in again.page(0)] == [1]


async def test_the_jobs_own_error_is_its_problem(appliance: Appliance, tmp_path: Path) -> None:
    ctx = context(appliance)
    async with running(appliance):
        job = import_rows(ctx, tmp_path, b"\n")
        await until(lambda: state(ctx, job) == "failed")
    problem = jobs.show(ctx, job.id, {}).job.problem
    assert problem is not None
    assert problem.code == "dataset.no_rows"


async def test_a_stopped_job_keeps_what_it_goes_on_from_for_a_while(appliance: Appliance, tmp_path: Path) -> None:
    ctx = context(appliance)
    async with running(appliance):
        job = import_rows(ctx, tmp_path, b"\n")
        await until(lambda: state(ctx, job) == "failed")
    folder = appliance.paths.job(job.id)
    await until(lambda: not (folder / "in").exists())
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    for days, kept in ((29, True), (31, False)):
        later = replace(appliance, clock=partial(_later, appliance, days))
        runner_of(later)._give_up_old()
        assert (folder / "checkpoints").exists() is kept
    assert (folder / "events.jsonl").exists()


async def test_what_was_sealed_before_the_daemon_died_is_adopted(appliance: Appliance, tmp_path: Path) -> None:
    """No process is started for it: the result is there."""
    ctx = context(appliance)
    job = import_rows(ctx, tmp_path)
    lay_out(appliance, job)
    argv = [sys.executable, "-I", "-m", "appliance.jobs.worker", str(appliance.paths.job(job.id))]
    await asyncio.to_thread(subprocess.run, argv, check=True)
    async with running(appliance):
        await until(lambda: state(ctx, job) == "succeeded")
    assert jobs.show(ctx, job.id, {}).job.attempt == 0
    assert not (appliance.paths.job(job.id) / "process.log").exists()


async def test_a_result_that_cannot_be_read_fails_the_job_and_not_the_runner(
    appliance: Appliance, tmp_path: Path
) -> None:
    ctx = context(appliance)
    job = import_rows(ctx, tmp_path)
    appliance.paths.job(job.id).mkdir(parents=True)
    (appliance.paths.job(job.id) / "result.json").write_bytes(b"{")
    async with running(appliance):
        await until(lambda: state(ctx, job) == "failed")
        appliance.paths.job(job.id).joinpath("result.json").unlink()
        jobs.resume(ctx, job.id)
        await until(lambda: state(ctx, job) == "succeeded")


async def test_a_job_that_dies_without_progress_is_tried_again_so_often_and_then_has_failed(
    appliance: Appliance, tmp_path: Path
) -> None:
    ctx = context(appliance)
    job = import_rows(ctx, tmp_path)
    kills = 0
    async with running(appliance):
        while state(ctx, job) != "failed":
            with contextlib.suppress(ProcessLookupError):
                for item in find(appliance.paths.root):
                    os.killpg(item.identity.pid, signal.SIGKILL)
                    kills += 1
            await asyncio.sleep(0.01)
    problem = jobs.show(ctx, job.id, {}).job.problem
    assert problem is not None
    assert problem.code == "job.crashed"
    assert jobs.show(ctx, job.id, {}).job.attempt == appliance.settings.job_retries + 1
    assert kills >= appliance.settings.job_retries + 1


async def test_a_job_that_the_kernel_kills_for_memory_has_failed_of_it(appliance: Appliance, tmp_path: Path) -> None:
    ctx = context(appliance)
    with group_with(memory=8 << 20) as group:
        enter = ("/bin/sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(group))
        async with running(appliance, prefix=enter):
            job = import_rows(ctx, tmp_path)
            await until(lambda: state(ctx, job) == "failed")
    view = jobs.show(ctx, job.id, {}).job
    assert view.problem is not None
    assert (view.problem.code, view.attempt) == ("job.out_of_memory", 1)


async def test_a_job_that_is_killed_long_after_another_ran_out_of_memory_is_tried_again(
    appliance: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills, looks = 0, 0

    def memory_kills() -> int:
        nonlocal looks
        looks += 1
        return kills

    monkeypatch.setattr(job_runner, "_KILL_WINDOW", 0.02)
    monkeypatch.setattr(job_runner, "memory_kills", memory_kills)
    ctx = context(appliance)
    async with running(appliance, prefix=("/bin/sh", "-c", "exec tail -f /dev/null")):
        job = import_rows(ctx, tmp_path)
        await until(lambda: find(appliance.paths.root))
        kills, looks = 1, 0
        await until(lambda: looks > 2)
        os.killpg(find(appliance.paths.root)[0].identity.pid, signal.SIGKILL)
        await until(lambda: jobs.show(ctx, job.id, {}).job.attempt == 2 or state(ctx, job) == "failed")
    assert state(ctx, job) != "failed"


@contextmanager
def group_with(*, memory: int) -> Iterator[Path]:
    """A control group with so many bytes of memory; skips where none can be made."""
    mount = Path("/sys/fs/cgroup")
    old = (mount / "memory").is_dir()
    group = (mount / "memory" if old else mount) / f"intramuros-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if old else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(memory))
    except OSError as error:
        pytest.skip(f"no control group with a limit can be made here: {error.strerror}")
    try:
        yield group
    finally:
        group.rmdir()


async def test_a_cancelled_job_ends_as_cancelled_and_is_asked_once(appliance: Appliance, tmp_path: Path) -> None:
    ctx = context(appliance)
    job = import_rows(ctx, tmp_path)
    async with running(appliance) as runner:
        await until(lambda: find(appliance.paths.root))
        jobs.cancel(ctx, job.id)
        for _ in range(5):
            runner.wake()
        await until(lambda: state(ctx, job) not in jobs.UNFINISHED)
    assert state(ctx, job) in ("cancelled", "succeeded")
    assert find(appliance.paths.root) == ()


async def test_a_job_that_was_cancelled_while_it_was_being_laid_out_does_not_run(appliance: Appliance) -> None:
    job = train(appliance)
    runner = runner_of(appliance)
    serving = asyncio.create_task(runner.run())
    with appliance.database.write() as connection:  # the row cannot be marked as running while this is held
        await asyncio.to_thread(_wait_for, appliance.paths.job(job.id) / "in")
        connection.execute(update(schema.jobs).where(schema.jobs.c.id == job.id).values(state="cancelled"))
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await runner.stop()
    assert state(context(appliance), job) == "cancelled"
    assert not (appliance.paths.job(job.id) / "process.log").exists()


async def test_a_job_that_is_being_laid_out_when_all_stops_is_not_started(appliance: Appliance) -> None:
    job = train(appliance)
    runner = runner_of(appliance)
    serving = asyncio.create_task(runner.run())
    with appliance.database.write():  # the row cannot be marked as running while this is held
        await asyncio.to_thread(_wait_for, appliance.paths.job(job.id) / "in")
        serving.cancel()
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
    began = time.monotonic()
    await stopping
    assert time.monotonic() - began < 5
    assert find(appliance.paths.root) == ()
    assert not (appliance.paths.job(job.id) / "process.log").exists()
    await asyncio.gather(serving, return_exceptions=True)
    assert state(context(appliance), job) == "running", "it goes on after the next start"


async def test_events_are_waited_for_no_longer_than_asked(appliance: Appliance) -> None:
    job = train(appliance)
    began = time.monotonic()
    await runner_of(appliance).wait_for_events(job.id, after=0, hold=0.1)
    assert 0.1 <= time.monotonic() - began < 2


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"{path} did not appear")
        time.sleep(0.005)


def train(appliance: Appliance) -> t.JobView:
    ctx = context(appliance)
    return queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)})


def lay_out(appliance: Appliance, job: t.JobView) -> None:
    directory = appliance.paths.job(job.id)
    directory.mkdir(parents=True)
    spec = jobs.show(context(appliance), job.id, {}).spec
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))


def test_a_job_that_could_not_even_write_its_error_has_failed_for_want_of_space(appliance: Appliance) -> None:
    ctx = context(appliance)
    job = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": imported_dataset(ctx)})
    appliance.paths.job(job.id).mkdir(parents=True)
    runner_of(appliance)._settle(job.id, StorageFailure.exit_code)
    shown = jobs.show(ctx, job.id, {}).job
    assert shown.problem is not None
    assert (shown.state, shown.problem.code) == ("failed", "storage.full")
