"""The runs that this box trains for: laid out from what was given, started, watched, and stopped when nobody asks.

STATE/runs/KEY/   a job's directory, with given/SHA256 beside what every job has
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import msgspec

from appliance.daemon.job_log import JobLog
from appliance.fleet.wire import Order, RunView
from appliance.jobs.spec import FileEntry, JobKind, JobSpec, TaskResult
from appliance.jobs.start import start_job
from appliance.jobs.workspace import PLACEMENT
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, storage_errors
from appliance.kernel.problem import Problem
from appliance.services.machine import code_digest, environment

D = TypeVar("D")

LEASE: Final = 60.0
"""seconds after which a run that nobody asks about is stopped"""
_STOP_PATIENCE: Final = 30.0
_KEPT: Final = 30 * 24 * 3600.0
"""seconds that a stopped run keeps its checkpoints"""
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

    def __init__(self, folder: Path, *, address: str, niceness: int) -> None:
        self._folder = folder
        self._address = address
        self._niceness = niceness
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._asked: dict[str, float] = {}
        self._logs: dict[str, JobLog] = {}
        self._code = code_digest()

    @property
    def running(self) -> int:
        """How many runs train now."""
        return len(self._running)

    async def lay_out(self, key: str, order: Order) -> RunView:
        """Make a run's directory, or find it again. Raises Conflict when this box would compute something else."""
        self._require_same(order.spec)
        if key not in self._running:
            await asyncio.to_thread(self._lay_out, key, order.spec)
        return await self.view(key, after=0, free_port=True)

    def _require_same(self, spec: JobSpec) -> None:
        if spec.kind not in _DISTRIBUTED:
            raise BadInput("rankhost.kind", f"{spec.kind} is not trained by a rank host.")
        own = environment(spec.environment.threads, self._code)
        if spec.environment.code != own.code:
            raise Conflict(
                "rankhost.other_version",
                "This box has another version of the appliance than the one that asks.",
                hint="Install the same bundle on both.",
            )
        others = sorted(name for name, found in own.packages.items() if spec.environment.packages.get(name) != found)
        if others:
            raise Conflict(
                "rankhost.other_packages",
                f"This box has another {', '.join(others)} than the one that asks.",
                hint="Install the same bundle on both.",
            )

    def _lay_out(self, key: str, spec: JobSpec) -> None:
        directory = self._folder / key
        for entry in _entries(spec):
            _require_inside(entry)
        with storage_errors("laying out a run"):
            if (directory / "spec.json").exists():
                found = msgspec.json.decode((directory / "spec.json").read_bytes(), type=JobSpec)
                if found.run_id != spec.run_id:
                    raise Conflict("rankhost.other_run", f"The run {key} is another one here.")
                return
            (directory / "given").mkdir(parents=True, exist_ok=True)
            write_file(directory / "spec.json", msgspec.json.encode(spec))

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
                arriving.rename(target)
            finally:
                arriving.unlink(missing_ok=True)

    async def start(self, key: str, placement: dict[str, Any]) -> RunView:
        """Start a run, or leave it be where it runs or has ended well. Raises Conflict while files are missing."""
        spec = self._spec(key)
        view = await self.view(key)
        if view.missing:
            raise Conflict("rankhost.incomplete", f"The run {key} still needs {len(view.missing)} files.")
        if view.state not in ("running", "succeeded"):
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
            (directory / "error.json").unlink(missing_ok=True)
            shutil.rmtree(directory / "in", ignore_errors=True)
            for name, given in spec.inputs.items():
                for entry in given.files:
                    target = directory / "in" / name / entry.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(directory / "given" / entry.digest, target)
            write_file(directory / PLACEMENT, msgspec.json.encode(placement))

    async def _watch(self, key: str, process: subprocess.Popen[bytes]) -> None:
        status = await asyncio.to_thread(process.wait)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        directory = self._folder / key
        if status == _UNWRITTEN.exit_code and not (directory / "error.json").exists():
            with contextlib.suppress(OSError):  # the space may be back; otherwise the run counts as stopped
                write_file(directory / "error.json", msgspec.json.encode(_UNWRITTEN))
        del self._running[key]

    async def view(self, key: str, *, after: int = 0, hold: float = 0.0, free_port: bool = False) -> RunView:
        """Return how a run fares, waiting up to `hold` seconds for an event or its end. Raises NotFound."""
        spec = self._spec(key)
        self._asked[key] = time.monotonic()
        deadline = time.monotonic() + hold
        log = self._logs.setdefault(key, JobLog(self._folder / key / "events.jsonl"))
        while True:
            log.refresh()
            running = key in self._running
            problem = await asyncio.to_thread(self._problem, key)
            if len(log.events) > after or not running or problem is not None or time.monotonic() >= deadline:
                break
            await asyncio.sleep(_POLL)
        self._asked[key] = time.monotonic()
        events = log.page(after)
        directory = self._folder / key
        result = None if running else _read(directory / "result.json", TaskResult)
        given = {entry.digest for entry in _entries(spec) if (directory / "given" / entry.digest).exists()}
        return RunView(
            state="running"
            if running
            else "succeeded"
            if result is not None
            else "failed"
            if problem is not None
            else "stopped"
            if (directory / PLACEMENT).exists()
            else "laid_out",
            missing=tuple(sorted({entry.digest for entry in _entries(spec)} - given)),
            free_port=self._free_port() if free_port else 0,
            problem=problem,
            result=result,
            events=tuple(event.event for event in events),
            next=events[-1].seq if events else after,
        )

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
        if key in self._running:
            raise Conflict("rankhost.running", f"The run {key} still trains.", hint="Stop it first.")
        self._logs.pop(key, None)
        self._asked.pop(key, None)
        await asyncio.to_thread(shutil.rmtree, self._folder / key, ignore_errors=True)

    async def look_after(self) -> None:
        """Stop what nobody asks about, and remove what stopped long ago; until cancelled."""
        while True:
            now = time.monotonic()
            for key in tuple(self._running):
                if now - self._asked.get(key, now) > LEASE:
                    print(f"run {key}: nobody asked about it for {LEASE:.0f} s, it is stopped", flush=True)
                    self._asked[key] = now
                    await self.stop(key)
            await asyncio.to_thread(self._sweep)
            await asyncio.sleep(LEASE / 4)

    def _sweep(self) -> None:
        for directory in self._folder.iterdir() if self._folder.is_dir() else ():
            newest = max(path.stat().st_mtime for path in (directory, directory / "events.jsonl") if path.exists())
            if directory.name not in self._running and time.time() - newest > _KEPT:
                shutil.rmtree(directory, ignore_errors=True)

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
