"""Runs queued jobs, one process each, and settles every one of them exactly once, whatever dies in between.

A job's process outlives the daemon. After a restart the runner finds it by its mark, or finds the sealed result,
or queues the job again from its newest valid checkpoint; a job that crashes without progress too often has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Row, select, update

from appliance.daemon import shared_work
from appliance.daemon.job_log import JobLog
from appliance.daemon.marks import mark
from appliance.daemon.supervisor import Supervisor, exited
from appliance.jobs.spec import JobSpec, TaskResult
from appliance.jobs.start import start_job
from appliance.jobs.workspace import RANK_HOSTS, RankHosts
from appliance.kernel.clock import to_text
from appliance.kernel.durable import write_file
from appliance.kernel.errors import InternalError, IntramurosError, StorageFailure, Unavailable, storage_failure
from appliance.kernel.events import Progress
from appliance.kernel.problem import Problem, problem_of
from appliance.kernel.process import ProcessIdentity, identify, memory_kills, send_signal
from appliance.services import outcomes
from appliance.services.context import Context
from appliance.services.jobs import UNFINISHED
from appliance.services.machine import environment
from appliance.services.planning import plan_of_job
from appliance.services.version import product_version
from appliance.store.schema import jobs

_STOP_PATIENCE = 30.0
_POLL = 0.2
_KILL_WINDOW = 10.0
"""seconds: whoever is killed later than two of them after the kernel killed for memory was killed for another reason"""
_RETRY = 5.0
_IDLE_LOGS = 16
"""Logs of jobs that do not run now, which stay read for whoever looks at them."""
_WORK: Final = ("in", "out")
_RESUMED_FROM: Final = ("scratch", "checkpoints")
"""Folders of a job: what each attempt makes anew, and what one goes on from."""
_SWEEP_EVERY: Final = 3600.0
_UNWRITTEN = Problem(
    code="storage.full",
    message="The disk had no space left for the job, not even to say what it was doing.",
    hint="Free some space and resume it with `intramuros job resume`; its checkpoints stay.",
    exit_code=StorageFailure.exit_code,
)
_OUT_OF_MEMORY = Problem(
    code="job.out_of_memory",
    message="The kernel killed the job because memory ran out.",
    hint="Use a smaller batch or a shorter sequence, or stop other work, and resume it; its checkpoints stay.",
    exit_code=Unavailable.exit_code,
)
"""What became of jobs that could not write their own error."""


class JobRunner:
    """The queue's only consumer."""

    def __init__(self, ctx: Context, supervisor: Supervisor, *, prefix: tuple[str, ...]) -> None:
        self._ctx = ctx
        self._supervisor = supervisor
        self._prefix = prefix
        self._running: dict[str, asyncio.Task[None]] = {}
        self._identities: dict[str, ProcessIdentity] = {}
        self._asked: set[ProcessIdentity | None] = set()
        self._short: str | None = None
        """the queued job that waits until others have given memory back"""
        self._logs: dict[str, JobLog] = {}
        self._opening = threading.Lock()
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Look at the queue again."""
        self._wake.set()

    async def run(self) -> None:
        """Serve the queue until cancelled. What the database calls running is taken up again whenever nobody has it."""
        swept = -_SWEEP_EVERY
        while True:
            self._wake.clear()
            if time.monotonic() - swept > _SWEEP_EVERY:
                swept = time.monotonic()
                await asyncio.to_thread(self._give_up_old)
                await asyncio.to_thread(shared_work.sweep, self._ctx)
            for row in await asyncio.to_thread(self._rows, "running"):
                self._begin(row)
            await self._cancel_asked()
            free = self._ctx.appliance.settings.parallel_jobs - len(self._running)
            short = None
            for row in (await asyncio.to_thread(self._rows, "queued"))[: max(0, free)]:
                if self._running and not await asyncio.to_thread(self._fits, row):
                    short = row.id  # and those behind it wait too: smaller ones would keep it out for ever
                    break
                self._begin(row)
            self._short = short
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0):
                    await self._wake.wait()

    async def stop(self) -> None:
        """Ask every running job to save a checkpoint and stop; they go on after the next start."""
        self._stopping = True
        for identity in tuple(self._identities.values()):
            _ask_to_stop(identity)
        if self._running:
            await asyncio.wait(self._running.values(), timeout=_STOP_PATIENCE)
        for identity in tuple(self._identities.values()):
            send_signal(identity, signal.SIGKILL)

    def progress(self) -> dict[str, Progress]:
        """Return the newest progress of every running job, and what the next one waits for."""
        found = {self._short: Progress(phase="waits for memory")} if self._short else {}
        for job_id in tuple(self._running):
            log = self.log(job_id)
            log.refresh()
            if log.progress is not None:
                found[job_id] = log.progress
        return found

    def log(self, job_id: str) -> JobLog:
        """Return the log of a job, finished ones too."""
        with self._opening:
            found = self._logs.pop(job_id, None)
            self._logs[job_id] = found or JobLog(self._ctx.appliance.paths.job(job_id) / "events.jsonl")
            idle = [other for other in self._logs if other not in self._running]
            for other in idle[:-_IDLE_LOGS]:  # the one asked for last comes last
                del self._logs[other]
            return self._logs[job_id]

    async def wait_for_events(self, job_id: str, *, after: int, hold: float) -> None:
        """Return when the job has an event after `after`, is no longer unfinished, or `hold` seconds have passed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + hold
        log = self.log(job_id)
        while True:
            log.refresh()
            if len(log.events) > after or loop.time() >= deadline:
                return
            if job_id not in self._running and await asyncio.to_thread(self._is_settled, job_id):
                return
            await asyncio.sleep(_POLL)

    def _begin(self, row: Row[Any]) -> None:
        if row.id not in self._running:
            task = asyncio.create_task(self._guard(row), name=f"job-{row.id}")
            self._running[row.id] = task
            task.add_done_callback(partial(self._ended, row.id))

    def _ended(self, job_id: str, _task: asyncio.Task[None]) -> None:
        self._running.pop(job_id, None)
        self._asked.discard(self._identities.pop(job_id, None))
        self.wake()

    async def _guard(self, row: Row[Any]) -> None:
        """The border of the job loop: whatever goes wrong around a job is that job's failure."""
        try:
            await self._run_job(row)
        except IntramurosError as error:
            problem = problem_of(error)
        except OSError as error:
            problem = problem_of(storage_failure(error, doing=f"running job {row.id}"))
        except Exception as error:  # noqa: BLE001 - one of the four borders
            traceback.print_exc()
            problem = problem_of(
                InternalError("job.defect", f"Running job {row.id} stopped on a {type(error).__name__}.")
            )
        else:
            return
        try:
            await asyncio.to_thread(outcomes.fail, self._ctx, row.id, problem)
            await asyncio.to_thread(self._put_away, row.id)
        except IntramurosError as error:
            print(f"job {row.id} cannot be settled now: {error}", file=sys.stderr)
            await asyncio.sleep(_RETRY)

    async def _run_job(self, row: Row[Any]) -> None:
        name = f"job-{row.id}"
        directory = self._ctx.appliance.paths.job(row.id)
        identity = self._supervisor.claim(name)
        process, kills = None, memory_kills()
        if identity is None and not (directory / "result.json").exists():
            spec = await asyncio.to_thread(self._prepare, row)
            if spec is None or self._stopping:
                return
            process = start_job(
                directory,
                spec,
                niceness=self._ctx.appliance.settings.job_niceness,
                prefix=self._prefix,
                marks=mark(name, self._ctx.appliance.paths.root),
            )
            identity = identify(process.pid)
        if identity is not None:
            self._identities[row.id] = identity
            kills = await _kills_before(identity, kills)
        status = process.wait() if process is not None else None
        if identity is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(identity.pid, signal.SIGKILL)
        short = not self._stopping and memory_kills() > kills and status in (None, -signal.SIGKILL)
        await asyncio.to_thread(self._settle, row.id, status, short_of_memory=short)

    def _prepare(self, row: Row[Any]) -> JobSpec | None:
        """Lay out the job's directory, mark it running, and return its specification; None if it was cancelled."""
        directory = self._ctx.appliance.paths.job(row.id)
        directory.mkdir(parents=True, exist_ok=True)
        spec = msgspec.convert(row.spec, JobSpec)
        if row.attempt == 0 and (plan := plan_of_job(self._ctx, spec)) is not None:
            plan.require()  # it was planned when it was queued, and serving may have grown since
        (directory / "error.json").unlink(missing_ok=True)
        write_file(directory / "spec.json", msgspec.json.encode(spec))
        shutil.rmtree(directory / "in", ignore_errors=True)
        for name, given in spec.inputs.items():
            self._ctx.appliance.blobs.link_folder(given.files, directory / "in" / name)
        shared_work.take_over(self._ctx, row)
        settings = self._ctx.appliance.settings
        if settings.fleet:
            hosts = RankHosts(
                inventory=settings.fleet,
                sockets=settings.rank_sockets,
                version=product_version(),
                environment=environment(settings.training_threads, self._ctx.appliance.code_digest),
            )
            write_file(directory / RANK_HOSTS, msgspec.json.encode(hosts))
        else:
            (directory / RANK_HOSTS).unlink(missing_ok=True)
        with self._ctx.appliance.database.write() as connection:
            values: dict[str, Any] = {"state": "running", "attempt": row.attempt + 1}
            if not row.started_at:
                values["started_at"] = to_text(self._ctx.appliance.clock())
            waiting = (jobs.c.id == row.id, jobs.c.state.in_(UNFINISHED))
            marked = connection.execute(update(jobs).where(*waiting).values(**values)).rowcount
        return spec if marked else None

    def _fits(self, row: Row[Any]) -> bool:
        """Whether a job's memory is there beside those that run. One that cannot be planned fails when it begins."""
        try:
            plan = plan_of_job(self._ctx, msgspec.convert(row.spec, JobSpec))
        except (IntramurosError, OSError):
            return True
        return plan is None or plan.fits

    def _settle(self, job_id: str, status: int | None, *, short_of_memory: bool = False) -> None:
        directory = self._ctx.appliance.paths.job(job_id)
        row = self._row(job_id)
        if (directory / "result.json").exists():
            result = msgspec.json.decode((directory / "result.json").read_bytes(), type=TaskResult)
            outcomes.succeed(self._ctx, job_id, result)
            _remove(directory, *_WORK, *_RESUMED_FROM, *(() if row.campaign_id else (shared_work.SHARED,)))
            return
        if (directory / "error.json").exists():
            problem = msgspec.json.decode((directory / "error.json").read_bytes(), type=Problem)
            outcomes.fail(self._ctx, job_id, problem)
        elif status == StorageFailure.exit_code:
            outcomes.fail(self._ctx, job_id, _UNWRITTEN)
        elif row.cancel_requested:
            outcomes.cancelled(self._ctx, job_id)
        elif short_of_memory:  # it would only happen again
            outcomes.fail(self._ctx, job_id, _OUT_OF_MEMORY)
        else:
            self._queue_again(row, status)
            return
        self._put_away(job_id)

    def _put_away(self, job_id: str) -> None:
        """Keep of a stopped job what it can be resumed from; its inputs are laid out anew then."""
        _remove(self._ctx.appliance.paths.job(job_id), *_WORK)

    def _give_up_old(self) -> None:
        """Drop what jobs that were stopped long ago could have been resumed from; their logs stay.

        Called where no job can begin meanwhile.
        """
        appliance = self._ctx.appliance
        days = appliance.settings.job_keep_days
        if not days:
            return
        before = to_text(appliance.clock() - timedelta(days=days))
        old = (jobs.c.state.in_(("failed", "cancelled")), jobs.c.finished_at != "", jobs.c.finished_at < before)
        with appliance.database.read() as connection:
            found = connection.execute(select(jobs.c.id).where(*old)).scalars().all()
        for job_id in found:
            _remove(appliance.paths.job(job_id), *_WORK, *_RESUMED_FROM, shared_work.SHARED)

    def _queue_again(self, row: Row[Any], status: int | None) -> None:
        log = self.log(row.id)
        log.refresh()
        progressed = log.checkpoint_step > row.checkpoint_step
        stalled = row.stalled if self._stopping else 0 if progressed else row.stalled + 1
        if stalled > self._ctx.appliance.settings.job_retries:
            reason = "was killed" if status is None or status < 0 else f"ended with status {status}"
            problem = Problem(
                code="job.crashed",
                message=f"The job {reason} {stalled} times without progress.",
                hint=f"See `intramuros job log {row.id}`; resume it with `intramuros job resume {row.id}`.",
                exit_code=70,
            )
            outcomes.fail(self._ctx, row.id, problem)
            self._put_away(row.id)
            return
        with self._ctx.appliance.database.write() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == row.id)
                .values(state="queued", stalled=stalled, checkpoint_step=log.checkpoint_step)
            )
            self._ctx.record(connection, "job.interrupted", row.id, step=log.checkpoint_step, attempt=row.attempt)

    async def _cancel_asked(self) -> None:
        for job_id, identity in tuple(self._identities.items()):
            if identity in self._asked:
                continue
            if (await asyncio.to_thread(self._row, job_id)).cancel_requested:
                self._asked.add(identity)
                _ask_to_stop(identity)
                asyncio.get_running_loop().call_later(_STOP_PATIENCE, send_signal, identity, signal.SIGKILL)

    def _rows(self, state: str) -> list[Row[Any]]:
        with self._ctx.appliance.database.read() as connection:
            return list(connection.execute(select(jobs).where(jobs.c.state == state).order_by(jobs.c.id)))

    def _row(self, job_id: str) -> Row[Any]:
        with self._ctx.appliance.database.read() as connection:
            return connection.execute(select(jobs).where(jobs.c.id == job_id)).one()

    def _is_settled(self, job_id: str) -> bool:
        return self._row(job_id).state not in UNFINISHED


def _remove(directory: Path, *folders: str) -> None:
    for folder in folders:
        shutil.rmtree(directory / folder, ignore_errors=True)


async def _kills_before(identity: ProcessIdentity, start: int) -> int:
    """Wait for a process's end; returns how often the kernel had killed for memory shortly before (`start`: then)."""
    earlier = latest = start
    while True:
        try:
            async with asyncio.timeout(_KILL_WINDOW):
                await exited(identity)
        except TimeoutError:
            earlier, latest = latest, memory_kills()
        else:
            return earlier


def _ask_to_stop(identity: ProcessIdentity) -> None:
    # The job's process alone: a converter that it runs must not die under it, which would look like a failure.
    send_signal(identity, signal.SIGTERM, group=False)
