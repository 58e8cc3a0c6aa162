"""Keeps named processes running: adopts the ones a former daemon left, restarts with back-off, stops in order.

Every process leads its own session, so the daemon's death touches none of them. Their end is seen through a pidfd,
which works for adopted processes as for children.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from appliance.api.types import UnitView
from appliance.daemon.marks import find, mark
from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.process import ProcessIdentity, identify, is_alive, send_signal, start

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
_HEALTHY_AFTER = 10.0
_READY_POLL = 0.05
_DEATH_PATIENCE = 5.0
_CHECK_EVERY = 5.0
_MISSED_NOTED = 2
_MISSED_FATAL = 12
"""A process that misses so many checks in a row hangs: it is killed, and started again like a crashed one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSpec:
    """What to run and how to tell that it serves."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    is_ready: Callable[[], Awaitable[bool]]
    restart: bool = True


class Unit:
    """One supervised process through all its restarts."""

    def __init__(self, spec: UnitSpec, *, root: Path, log: Path, adopted: ProcessIdentity | None) -> None:
        self.spec = spec
        self.state = "starting"
        self.identity = adopted
        self.restarts = 0
        self.since = to_text(utc_now())
        self.detail = ""
        self.exit_status: int | None = None
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self._root = root
        self._log = log
        self._stop_asked = asyncio.Event()
        self._task = asyncio.create_task(self._keep(), name=f"unit-{spec.name}")

    def view(self) -> UnitView:
        """Return the unit as the control API tells it."""
        return UnitView(
            name=self.spec.name,
            state=self.state,
            pid=self.identity.pid if self.identity else None,
            since=self.since,
            restarts=self.restarts,
            memory_bytes=resident_bytes(self.identity.pid) if self.identity else 0,
            detail=self.detail,
        )

    async def stop(self, *, patience: float) -> None:
        """SIGTERM, wait up to `patience` seconds, then SIGKILL."""
        self._stop_asked.set()
        self._enter("draining")
        if self.identity is not None:
            send_signal(self.identity, signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self.ended.wait()
        except TimeoutError:
            if self.identity is not None:
                send_signal(self.identity, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DEATH_PATIENCE):
                    await self.ended.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._enter("stopped")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the running process, if there is one."""
        if self.identity is not None:
            send_signal(self.identity, number)

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._run_once()
            if self._stop_asked.is_set() or not self.spec.restart:
                self.ended.set()
                return
            pause = _FIRST_PAUSE if loop.time() - began > _HEALTHY_AFTER else min(pause * 2, _LONGEST_PAUSE)
            self.restarts += 1
            self._enter("backing-off")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop_asked.wait()
                self.ended.set()
                return

    async def _run_once(self) -> None:
        self.ready.clear()
        process = None
        if self.identity is None or not is_alive(self.identity):
            environment = self.spec.environment | mark(self.spec.name, self._root)
            try:
                process = start(self.spec.argv, log=self._log, extra_environment=environment)
            except OSError as error:  # no memory for a process, no room for its log: as good as a crash
                self.detail, self.exit_status = f"cannot be started: {error.strerror}", None
                return
            self.identity = identify(process.pid)
        self._enter("starting")
        watch = asyncio.create_task(self._watch())
        try:
            if self.identity is not None:
                await exited(self.identity)
        finally:
            watch.cancel()
        self.exit_status = process.wait() if process is not None else None
        self.detail = f"exit status {self.exit_status}" if self.exit_status is not None else "ended"
        self.identity = None
        self.ready.clear()

    async def _watch(self) -> None:
        """Say when it is ready; later say so when it stops answering, and kill it when it does not come back."""
        while not await self.spec.is_ready():
            await asyncio.sleep(_READY_POLL)
        self.ready.set()
        while True:
            self.detail = ""
            if not self._stop_asked.is_set():
                self._enter("ready")
            await asyncio.sleep(_CHECK_EVERY)
            missed = 0
            while not await self.spec.is_ready():
                missed += 1
                self._suspect(missed)
                await asyncio.sleep(_CHECK_EVERY)

    def _suspect(self, missed: int) -> None:
        """Counts checks, not seconds: a daemon that was itself suspended must not blame the others."""
        if missed < _MISSED_NOTED or self._stop_asked.is_set():
            return
        self._enter("unresponsive")
        self.detail = f"{missed} checks without an answer"
        if missed >= _MISSED_FATAL:
            self.signal(signal.SIGKILL)

    def _enter(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.since = to_text(utc_now())


class Supervisor:
    """The units of one appliance by name."""

    def __init__(self, *, root: Path, logs: Path) -> None:
        self._root = root
        self._logs = logs
        self._units: dict[str, Unit] = {}
        self._adoptable = {item.unit: item.identity for item in find(root)}

    def ensure(self, spec: UnitSpec) -> Unit:
        """Return the unit of that name, adopting or starting its process when it is not supervised yet."""
        unit = self._units.get(spec.name)
        if unit is None:
            unit = Unit(
                spec,
                root=self._root,
                log=self._logs / f"{spec.name}.log",
                adopted=self._adoptable.pop(spec.name, None),
            )
            self._units[spec.name] = unit
        return unit

    def get(self, name: str) -> Unit | None:
        """Return a supervised unit, or None."""
        return self._units.get(name)

    def views(self) -> tuple[UnitView, ...]:
        """Return every unit, by name."""
        return tuple(self._units[name].view() for name in sorted(self._units))

    def adoptable(self, prefix: str) -> dict[str, ProcessIdentity]:
        """Return the living processes with that name prefix which nobody has claimed yet."""
        return {name: who for name, who in self._adoptable.items() if name.startswith(prefix)}

    def claim(self, name: str) -> ProcessIdentity | None:
        """Take over the record of a process that is not a unit, such as a job."""
        return self._adoptable.pop(name, None)

    async def stop(self, name: str, *, patience: float) -> None:
        """Stop a unit and forget it."""
        unit = self._units.get(name)
        if unit is not None:
            await unit.stop(patience=patience)
            self._units.pop(name, None)

    async def stop_all(self, *, patience: float) -> None:
        """Stop every unit at once."""
        await asyncio.gather(*(self.stop(name, patience=patience) for name in tuple(self._units)))


async def exited(identity: ProcessIdentity) -> None:
    """Wait until that very process has ended; works for children and for adopted processes."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        if not is_alive(identity):
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process, 0 when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
