"""The runs that this box trains for: which run now, who asks about them, and when one is stopped or forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from appliance.daemon.job_log import JobLog
from appliance.daemon.supervisor import exited
from appliance.fleet.wire import Order, RunView
from appliance.jobs.spec import JobKind
from appliance.jobs.start import start_job
from appliance.kernel.errors import BadInput, Conflict
from appliance.kernel.problem import Problem
from appliance.kernel.process import identify
from appliance.rankhost.run_folder import RunFolder, give_up_half_files
from appliance.services.machine import code_digest, environment
from appliance.services.version import product_version

LEASE: Final = 60.0
"""seconds after which a run that nobody asks about is stopped"""
INPUTS_KEPT: Final = 3600.0
"""seconds that a stopped run keeps its inputs; they are given again when it goes on"""
_KEPT: Final = 30 * 24 * 3600.0
"""seconds that a stopped run keeps its checkpoints"""
_LEAST_REST: Final = 24 * 3600.0
_STOP_PATIENCE: Final = 30.0
_POLL: Final = 0.2
_DISTRIBUTED: Final = frozenset({JobKind.TRAIN_FULL})
_UNWRITTEN: Final = Problem(
    code="storage.full",
    message="The disk had no space left for the run, not even to say what it was doing.",
    hint="Free some space and resume the job; its checkpoints stay.",
    exit_code=8,
)


class Runs:
    """Every run of this box. Belongs to one event loop; what waits for the disk runs in threads."""

    def __init__(self, folder: Path, *, address: str, interface: str, niceness: int) -> None:
        self._folder = folder
        self._address = address
        self._interface = interface
        self._niceness = niceness
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._asked: dict[str, float] = {}
        """when somebody last asked about a run, on the clock that nobody sets"""
        self._changing: dict[str, asyncio.Lock] = {}
        self._logs: dict[str, JobLog] = {}
        self.environment = environment(0, code_digest())
        give_up_half_files(folder)

    @property
    def running(self) -> int:
        """How many runs train now."""
        return len(self._running)

    async def lay_out(self, key: str, order: Order) -> RunView:
        """Make a run's directory, or find it again. Raises Conflict when this box would compute something else."""
        self._require_same(order)
        async with self._lock(key):
            if key not in self._running:
                await asyncio.to_thread(self._of(key).lay_out, order.spec)
        return await self.view(key, free_port=True)

    async def receive(self, key: str, digest: str, pieces: AsyncIterator[bytes]) -> None:
        """Keep a file that the run declares. Raises BadInput or IntegrityFailure."""
        await self._of(key).receive(digest, self._noting(key, pieces))

    async def start(self, key: str, placement: dict[str, Any]) -> RunView:
        """Start a run from its newest checkpoint, unless it runs. Raises Conflict while files are missing."""
        run = self._of(key)
        async with self._lock(key):
            if missing := run.missing():
                raise Conflict("rankhost.incomplete", f"The run {key} still needs {len(missing)} files.")
            if key not in self._running:
                await asyncio.to_thread(run.make_ready, placement | {"interface": self._interface})
                process = start_job(run.directory, run.spec, niceness=self._niceness)
                self._running[key] = process
                watch = asyncio.create_task(self._watch(run, process), name=f"run-{key}")
                self._watches.add(watch)
                watch.add_done_callback(self._watches.discard)
        return await self.view(key)

    async def view(self, key: str, *, after: int = 0, hold: float = 0.0, free_port: bool = False) -> RunView:
        """Return how a run fares, waiting up to `hold` seconds for an event or its end. Raises NotFound."""
        run = self._of(key)
        missing = run.missing()
        log = self._logs.setdefault(key, JobLog(run.events))
        deadline = time.monotonic() + hold
        while True:
            self._asked[key] = time.monotonic()
            log.refresh()
            running, problem = key in self._running, run.problem
            if len(log.events) > after or not running or problem is not None or time.monotonic() >= deadline:
                break
            await asyncio.sleep(_POLL)
        events = log.page(after)
        return RunView(
            state=run.state(running=running),
            missing=missing,
            free_port=self._free_port() if free_port else 0,
            problem=problem,
            result=None if running else run.result,
            events=tuple(event.event for event in events),
            next=events[-1].seq if events else after,
        )

    async def stop(self, key: str) -> None:
        """Ask a run to save a checkpoint and stop; one that does not is killed. One that is not there has stopped."""
        process = self._running.get(key)
        if process is not None:
            process.send_signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(_STOP_PATIENCE, self._kill, process)

    def made(self, key: str, path: str) -> Path:
        """Return a file that the run made. Raises NotFound."""
        return self._of(key).made(path)

    async def forget(self, key: str) -> None:
        """Remove a run with its checkpoints. Raises Conflict while it runs; one that is not there is fine."""
        async with self._lock(key):
            if key in self._running:
                raise Conflict("rankhost.running", f"The run {key} still trains.", hint="Stop it first.")
            await asyncio.to_thread(self._of(key).remove)
        self._logs.pop(key, None)
        self._asked.pop(key, None)
        self._changing.pop(key, None)

    async def look_after(self) -> None:
        """Stop what nobody asks about, and remove what stopped long ago; until cancelled."""
        while True:
            now = time.monotonic()
            for key in tuple(self._running):
                if now - self._asked.get(key, now) > LEASE:
                    print(f"run {key}: nobody asked about it for {LEASE:.0f} s, it is stopped", flush=True)
                    self._asked[key] = now
                    await self.stop(key)
            for directory in self._folder.iterdir() if self._folder.is_dir() else ():
                await self._sweep(RunFolder(directory))
            await asyncio.sleep(LEASE / 4)

    async def shut_down(self) -> None:
        """Have every run save and stop."""
        for key in tuple(self._running):
            await self.stop(key)
        if self._watches:
            await asyncio.wait(self._watches, timeout=_STOP_PATIENCE + 5)

    def _of(self, key: str) -> RunFolder:
        return RunFolder(self._folder / key)

    def _lock(self, key: str) -> asyncio.Lock:
        return self._changing.setdefault(key, asyncio.Lock())

    def _require_same(self, order: Order) -> None:
        if order.spec.kind not in _DISTRIBUTED:
            raise BadInput("rankhost.kind", f"{order.spec.kind} is not trained by a rank host.")
        asking, own = order.environment, self.environment
        if (order.version, asking.code) != (product_version(), own.code):
            raise Conflict(
                "rankhost.other_version",
                "This box has another version of the appliance than the one that asks.",
                hint="Install the same bundle on both.",
            )
        others = sorted(name for name, found in own.packages.items() if asking.packages.get(name) != found)
        if others:
            raise Conflict(
                "rankhost.other_packages",
                f"This box has another {', '.join(others)} than the one that asks.",
                hint="Install the same bundle on both.",
            )

    async def _noting(self, key: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Count each piece of a file as a question about its run: a large one may take hours."""
        async for piece in pieces:
            self._asked[key] = time.monotonic()
            yield piece

    async def _watch(self, run: RunFolder, process: subprocess.Popen[bytes]) -> None:
        if (identity := identify(process.pid)) is not None:
            await exited(identity)
        status = process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if status == _UNWRITTEN.exit_code:
            with contextlib.suppress(OSError):  # the space may be back; otherwise the run counts as stopped
                run.fail(_UNWRITTEN)
        if self._running.get(run.key) is process:
            del self._running[run.key]

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def _sweep(self, run: RunFolder) -> None:
        """Give up the inputs of a run that rests, and everything of one that has rested for a month.

        The wall clock may be set wrong by years: what is removed has also rested for a day on the other one.
        """
        now = time.monotonic()
        rested = now - self._asked.setdefault(run.key, now)
        if run.key in self._running or rested < INPUTS_KEPT:
            return
        async with self._lock(run.key):
            await asyncio.to_thread(run.give_up_inputs)
        try:
            age = time.time() - run.directory.stat().st_mtime
        except OSError:  # forgotten meanwhile
            return
        if rested > _LEAST_REST and age > _KEPT:
            await self.forget(run.key)

    def _free_port(self) -> int:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((self._address, 0))
            port: int = probe.getsockname()[1]
            return port
