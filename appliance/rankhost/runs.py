"""The runs that this box trains for: laid out from what was given, started, watched, and stopped when nobody asks.

STATE/runs/KEY/   a job's directory, with given/SHA256 beside what every job has
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeVar

import msgspec

from appliance.daemon.job_log import JobLog
from appliance.daemon.supervisor import exited
from appliance.fleet.wire import Order, RunView
from appliance.jobs.spec import FileEntry, JobKind, JobSpec, TaskResult
from appliance.jobs.start import start_job
from appliance.jobs.workspace import PLACEMENT
from appliance.kernel.canonical import sha256_file
from appliance.kernel.durable import fsync_file, write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, storage_errors
from appliance.kernel.problem import Problem
from appliance.kernel.process import identify
from appliance.services.machine import code_digest, environment
from appliance.services.version import product_version

D = TypeVar("D")

LEASE: Final = 60.0
"""seconds after which a run that nobody asks about is stopped"""
_STOP_PATIENCE: Final = 30.0
INPUTS_KEPT: Final = 3600.0
"""seconds that a stopped run keeps its inputs; they are given again when it goes on"""
_KEPT: Final = 30 * 24 * 3600.0
"""seconds that a stopped run keeps its checkpoints"""
_LEAST_REST: Final = 24 * 3600.0
_INPUT: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
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
        for left in folder.glob("*/given/*.part"):
            left.unlink()

    @property
    def running(self) -> int:
        """How many runs train now."""
        return len(self._running)

    async def lay_out(self, key: str, order: Order) -> RunView:
        """Make a run's directory, or find it again. Raises Conflict when this box would compute something else."""
        self._require_same(order)
        async with self._lock(key):
            if key not in self._running:
                await asyncio.to_thread(self._lay_out, key, order.spec)
        return await self.view(key, free_port=True)

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

    def _lay_out(self, key: str, spec: JobSpec) -> None:
        directory = self._folder / key
        for name in spec.inputs:
            if not _INPUT.fullmatch(name):
                raise BadInput("rankhost.path", f"{name[:200]!r} cannot be the name of an input.")
        for entry in _entries(spec):
            _require_inside(entry)
        with storage_errors("laying out a run"):
            found = _read(directory / "spec.json", JobSpec)
            if found is not None and found.run_id != spec.run_id:
                raise Conflict("rankhost.other_run", f"The run {key} is another one here.")
            (directory / "given").mkdir(parents=True, exist_ok=True)
            if found is None:
                write_file(directory / "spec.json", msgspec.json.encode(spec))
            problem = self._problem(key)
            if problem is not None and problem.code == "blob.corrupt":
                _give_up_damaged(directory / "given")

    async def receive(self, key: str, digest: str, pieces: AsyncIterator[bytes]) -> None:
        """Keep a file that the run declares. Raises BadInput (not declared, too long) or IntegrityFailure."""
        spec = self._spec(key)
        sizes = {entry.digest: entry.size for entry in _entries(spec)}
        if digest not in sizes:
            raise BadInput("rankhost.not_declared", f"The run {key} declares no file {digest[:12]}….")
        target = self._folder / key / "given" / digest
        arriving = target.with_name(f"{digest}.{time.monotonic_ns()}.part")
        found, size = sha256(), 0
        with storage_errors("receiving a file"):
            try:
                with arriving.open("wb") as stream:
                    async for piece in pieces:
                        size += len(piece)
                        if size > sizes[digest]:
                            raise BadInput("rankhost.too_long", f"The file {digest[:12]}… is longer than declared.")
                        found.update(piece)
                        await asyncio.to_thread(stream.write, piece)
                if found.hexdigest() != digest:
                    raise IntegrityFailure("rankhost.corrupt", f"The file {digest[:12]}… arrived with other bytes.")
                await asyncio.to_thread(fsync_file, arriving)
                arriving.rename(target)
                self._asked[key] = time.monotonic()
            finally:
                arriving.unlink(missing_ok=True)

    async def start(self, key: str, placement: dict[str, Any]) -> RunView:
        """Start a run from its newest checkpoint, unless it runs. Raises Conflict while files are missing."""
        async with self._lock(key):
            view = await self.view(key)
            if view.missing:
                raise Conflict("rankhost.incomplete", f"The run {key} still needs {len(view.missing)} files.")
            if view.state != "running":
                spec = self._spec(key)
                await asyncio.to_thread(self._make_ready, key, spec, placement)
                process = start_job(self._folder / key, spec, niceness=self._niceness)
                self._running[key] = process
                watch = asyncio.create_task(self._watch(key, process), name=f"run-{key}")
                self._watches.add(watch)
                watch.add_done_callback(self._watches.discard)
        return await self.view(key)

    def _make_ready(self, key: str, spec: JobSpec, placement: dict[str, Any]) -> None:
        directory = self._folder / key
        with storage_errors("laying out a run"):
            for before in ("error.json", "result.json"):
                (directory / before).unlink(missing_ok=True)
            shutil.rmtree(directory / "in", ignore_errors=True)
            for name, given in spec.inputs.items():
                for entry in given.files:
                    target = directory / "in" / name / entry.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(directory / "given" / entry.digest, target)
            write_file(directory / PLACEMENT, msgspec.json.encode(placement | {"interface": self._interface}))

    async def _watch(self, key: str, process: subprocess.Popen[bytes]) -> None:
        if (identity := identify(process.pid)) is not None:
            await exited(identity)
        status = process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        directory = self._folder / key
        if status == _UNWRITTEN.exit_code and not (directory / "error.json").exists():
            with contextlib.suppress(OSError):  # the space may be back; otherwise the run counts as stopped
                write_file(directory / "error.json", msgspec.json.encode(_UNWRITTEN))
        if self._running.get(key) is process:
            del self._running[key]

    async def view(self, key: str, *, after: int = 0, hold: float = 0.0, free_port: bool = False) -> RunView:
        """Return how a run fares, waiting up to `hold` seconds for an event or its end. Raises NotFound."""
        spec = self._spec(key)
        deadline = time.monotonic() + hold
        log = self._logs.setdefault(key, JobLog(self._folder / key / "events.jsonl"))
        while True:
            self._asked[key] = time.monotonic()
            log.refresh()
            running = key in self._running
            problem = await asyncio.to_thread(self._problem, key)
            if len(log.events) > after or not running or problem is not None or time.monotonic() >= deadline:
                break
            await asyncio.sleep(_POLL)
        events = log.page(after)
        directory = self._folder / key
        result = None if running else _read(directory / "result.json", TaskResult)
        return RunView(
            state=_state(directory, running=running, result=result, problem=problem),
            missing=tuple(sorted({entry.digest for entry in _entries(spec) if not _is_given(directory, entry)})),
            free_port=self._free_port() if free_port else 0,
            problem=problem,
            result=result,
            events=tuple(event.event for event in events),
            next=events[-1].seq if events else after,
        )

    def _lock(self, key: str) -> asyncio.Lock:
        return self._changing.setdefault(key, asyncio.Lock())

    def _problem(self, key: str) -> Problem | None:
        return _read(self._folder / key / "error.json", Problem)

    async def stop(self, key: str) -> None:
        """Ask a run to save a checkpoint and stop; one that does not is killed."""
        self._spec(key)
        process = self._running.get(key)
        if process is not None:
            process.send_signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(_STOP_PATIENCE, self._kill, process)

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def made(self, key: str, path: str) -> Path:
        """Return a file that the run made. Raises NotFound."""
        result = _read(self._folder / key / "result.json", TaskResult) if self._spec(key) else None
        if result is None or path not in {entry.path for entry in result.files}:
            raise NotFound("rankhost.no_file", f"The run {key} made no file {path[:200]}.")
        return self._folder / key / "out" / path

    async def forget(self, key: str) -> None:
        """Remove a run with its checkpoints. Raises Conflict while it runs; one that is not there is fine."""
        async with self._lock(key):
            if key in self._running:
                raise Conflict("rankhost.running", f"The run {key} still trains.", hint="Stop it first.")
            await asyncio.to_thread(shutil.rmtree, self._folder / key, ignore_errors=True)
        for remembered in (self._logs, self._asked, self._changing):
            remembered.pop(key, None)

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
                await self._sweep(directory, time.monotonic())
            await asyncio.sleep(LEASE / 4)

    async def _sweep(self, directory: Path, now: float) -> None:
        """Give up the inputs of a run that rests, and everything of one that has rested for a month.

        The wall clock may be set wrong by years: what is removed has also rested for a day on the other one.
        """
        key = directory.name
        rested = now - self._asked.setdefault(key, now)
        if key in self._running or rested < INPUTS_KEPT:
            return
        async with self._lock(key):
            for folder in ("given", "in"):
                await asyncio.to_thread(shutil.rmtree, directory / folder, ignore_errors=True)
        try:
            age = time.time() - directory.stat().st_mtime
        except OSError:  # forgotten meanwhile
            return
        if rested > _LEAST_REST and age > _KEPT:
            await self.forget(key)

    async def shut_down(self) -> None:
        """Have every run save and stop."""
        for key in tuple(self._running):
            await self.stop(key)
        if self._watches:
            await asyncio.wait(self._watches, timeout=_STOP_PATIENCE + 5)

    def _spec(self, key: str) -> JobSpec:
        spec = _read(self._folder / key / "spec.json", JobSpec)
        if spec is None:
            raise NotFound("rankhost.no_run", f"There is no run {key} here.")
        return spec

    def _free_port(self) -> int:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((self._address, 0))
            port: int = probe.getsockname()[1]
            return port


def _state(
    directory: Path, *, running: bool, result: TaskResult | None, problem: Problem | None
) -> Literal["laid_out", "running", "succeeded", "failed", "stopped"]:
    if running:
        return "running"
    if result is not None:
        return "succeeded"
    if problem is not None:
        return "failed"
    return "stopped" if (directory / PLACEMENT).exists() else "laid_out"


def _is_given(directory: Path, entry: FileEntry) -> bool:
    try:
        return (directory / "given" / entry.digest).stat().st_size == entry.size
    except FileNotFoundError:
        return False


def _give_up_damaged(folder: Path) -> None:
    """Remove files whose bytes are no longer those that they are named after, so that they are given again."""
    for file in folder.iterdir():
        if sha256_file(file) != file.name:
            file.unlink()


def _entries(spec: JobSpec) -> list[FileEntry]:
    return [entry for given in spec.inputs.values() for entry in given.files]


def _require_inside(entry: FileEntry) -> None:
    """Refuse a path that leads out of its folder, and a digest that is none: they come from another box."""
    parts = PurePosixPath(entry.path).parts
    plain = bool(parts) and not entry.path.startswith("/") and ".." not in parts and "\0" not in entry.path
    if not plain or len(entry.digest) != 64 or set(entry.digest) - set("0123456789abcdef"):
        raise BadInput("rankhost.path", f"{entry.path[:200]!r} cannot be the path of an input.")


def _read(file: Path, form: type[D]) -> D | None:
    """Return a document of a run's directory, or None where there is none yet."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=form)
    except FileNotFoundError:
        return None
