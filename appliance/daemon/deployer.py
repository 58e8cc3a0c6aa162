"""Makes the wished revisions real: starts an engine, proves that it answers, moves the traffic, drains the old one.

It reconciles: what it does follows from the database and from what runs, never from what it remembers, so a daemon
killed at any step goes on where things stand. Streams in flight stay on the engine they began on.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from appliance.daemon.engine_probe import greet, load, prove
from appliance.daemon.gateway_unit import gateway_holds, gateway_state, publish_table
from appliance.daemon.supervisor import Supervisor, Unit, UnitSpec
from appliance.kernel.errors import IntramurosError
from appliance.kernel.terminal import harmless
from appliance.services import deployments as service
from appliance.services.context import Context
from appliance.services.machine import physical_cores
from appliance.store.schema import deployments, models, revisions

_START_PATIENCE = 300.0
_TRIES = 3
_PERMANENT = range(2, 10)
_POLL = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A revision that should run."""

    number: int
    deployment: str
    ref: str
    gguf: str


class Deployer:
    """Turns revisions into engines and routes."""

    def __init__(self, ctx: Context, supervisor: Supervisor, *, prefix: tuple[str, ...]) -> None:
        self._ctx = ctx
        self._supervisor = supervisor
        self._prefix = prefix
        self._wake = asyncio.Event()
        self._starting: dict[int, asyncio.Task[None]] = {}
        self._draining: dict[int, asyncio.Task[None]] = {}
        self.changed = asyncio.Condition()

    def wake(self) -> None:
        """Look at the wishes again."""
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            self._wake.clear()
            await self._reconcile()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 5.0)

    async def wait_until_settled(self, name: str, revision: int, hold: float) -> None:
        """Return when that revision has left `starting`, or after `hold` seconds."""

        def starting() -> bool:
            view = service.show(self._ctx, name)
            return any(entry.number == revision and entry.state == "starting" for entry in view.revisions)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hold):
                while await asyncio.to_thread(starting):
                    async with self.changed:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self.changed.wait(), 0.5)

    def unit_of(self, revision: int) -> Unit | None:
        """Return the engine of a revision."""
        return self._supervisor.get(_name(revision))

    async def _reconcile(self) -> None:
        live, starting = await asyncio.to_thread(self._wanted)
        for wanted in live:
            self._supervisor.ensure(self._spec(wanted))
        for wanted in starting:
            if wanted.number not in self._starting:
                task = asyncio.create_task(self._start(wanted), name=f"start-{wanted.number}")
                self._starting[wanted.number] = task
                task.add_done_callback(partial(_forget, self._starting, wanted.number))
        await asyncio.to_thread(publish_table, self._ctx)
        await self._poke_gateway()
        kept = {wanted.number for wanted in (*live, *starting)}
        for number in self._running_numbers() - kept - self._draining.keys():
            task = asyncio.create_task(self._drain(number), name=f"drain-{number}")
            self._draining[number] = task
            task.add_done_callback(partial(_forget, self._draining, number))

    async def _poke_gateway(self) -> None:
        """Let the gateway look at its table now. On a box it is another user's process: being asked makes it look."""
        gateway = self._supervisor.get("gateway")
        if gateway is None:
            await asyncio.to_thread(gateway_state, self._ctx.appliance.paths)
        elif gateway.ready.is_set():
            gateway.signal(signal.SIGHUP)

    async def _start(self, wanted: _Wanted) -> None:
        """Bring one revision up and move the traffic to it; on failure what was live stays."""
        unit = self._supervisor.ensure(self._spec(wanted))
        reason = await self._reason_it_failed(unit, wanted)
        if reason:
            await asyncio.to_thread(service.mark_failed, self._ctx, wanted.number, reason)
        else:
            await asyncio.to_thread(service.mark_live, self._ctx, wanted.number)
        async with self.changed:
            self.changed.notify_all()
        self.wake()

    async def _reason_it_failed(self, unit: Unit, wanted: _Wanted) -> str:
        """Wait for the engine and let it generate one token; empty when that worked."""
        try:
            async with asyncio.timeout(_START_PATIENCE):
                while not unit.ready.is_set():
                    if unit.exit_status in _PERMANENT or unit.restarts >= _TRIES:
                        return self._last_words(wanted) or unit.detail
                    await asyncio.sleep(_POLL)
            await prove(self._socket(wanted.number))
        except TimeoutError:
            return f"the engine was not ready within {_START_PATIENCE:.0f} s"
        except IntramurosError as error:
            return harmless(str(error))
        return ""

    def _last_words(self, wanted: _Wanted) -> str:
        log = self._ctx.appliance.paths.logs / f"{_name(wanted.number)}.log"
        try:
            lines = log.read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return harmless(lines[-1])[:300] if lines else ""

    async def _drain(self, number: int) -> None:
        """Stop an engine once the gateway has no request on it any more and it has no other work."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._ctx.appliance.settings.drain_timeout
        while loop.time() < deadline and await self._is_busy(number):
            await asyncio.sleep(_POLL)
        await self._supervisor.stop(_name(number), patience=30.0)
        self._socket(number).unlink(missing_ok=True)

    async def _is_busy(self, number: int) -> bool:
        if await asyncio.to_thread(gateway_holds, self._ctx.appliance.paths, number):
            return True
        state = await load(self._socket(number))
        return state is not None and (state.active > 0 or state.waiting > 0)

    def _running_numbers(self) -> set[int]:
        named = [view.name for view in self._supervisor.views() if view.name.startswith("engine-")]
        for name in tuple(self._supervisor.adoptable("engine-")):
            number = int(name.removeprefix("engine-"))
            self._supervisor.ensure(self._stray(number))
            named.append(name)
        return {int(name.removeprefix("engine-")) for name in named}

    def _wanted(self) -> tuple[list[_Wanted], list[_Wanted]]:
        query = (
            select(revisions, models.c.name, models.c.version, models.c.files)
            .join(models, models.c.id == revisions.c.model_id)
            .join(deployments, deployments.c.name == revisions.c.deployment)
            .where(deployments.c.removed_at == "")
        )
        with self._ctx.appliance.database.read() as connection:
            live = connection.execute(query.where(deployments.c.live_revision == revisions.c.number)).all()
            starting = connection.execute(query.where(revisions.c.state == "starting")).all()
        return [_wanted(row) for row in live], [_wanted(row) for row in starting]

    def _spec(self, wanted: _Wanted) -> UnitSpec:
        settings = self._ctx.appliance.settings
        paths = self._ctx.appliance.paths
        socket = self._socket(wanted.number)
        argv = (
            *self._prefix,
            *(sys.executable, "-I", "-m", "appliance.engine.llama_worker"),
            *("--model", str(paths.blob(wanted.gguf))),
            *("--digest", wanted.gguf),
            *("--socket", str(socket)),
            *("--threads", str(settings.engine_threads or physical_cores())),
            *("--slots", str(settings.engine_slots)),
            *("--context", str(settings.engine_context)),
            *("--name", wanted.ref),
        )
        return UnitSpec(
            name=_name(wanted.number),
            argv=argv,
            environment={"GOMP_SPINCOUNT": str(settings.engine_spin_count)},
            is_ready=lambda: _answers(self._ctx.appliance.paths.worker_socket(wanted.number)),
        )

    def _stray(self, number: int) -> UnitSpec:
        """An engine left by a former daemon that no revision wants any more: adopted only to be drained."""
        return UnitSpec(
            name=_name(number),
            argv=("false",),
            is_ready=lambda: _answers(self._ctx.appliance.paths.worker_socket(number)),
            restart=False,
        )

    def _socket(self, number: int) -> Path:
        return self._ctx.appliance.paths.worker_socket(number)


def _name(number: int) -> str:
    return f"engine-{number}"


def _forget(tasks: dict[int, asyncio.Task[None]], number: int, _task: asyncio.Task[None]) -> None:
    tasks.pop(number, None)


async def _answers(socket: Path) -> bool:
    return await greet(socket) is not None


def _wanted(row: Row[Any]) -> _Wanted:
    return _Wanted(
        number=row.number,
        deployment=row.deployment,
        ref=f"{row.name}@{row.version}",
        gguf=service.gguf_digest(row),
    )
