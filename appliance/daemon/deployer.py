"""Makes the wished revisions real: starts an engine, proves that it answers, moves the traffic, drains the old one.

It reconciles: what it does follows from the database and from what runs, never from what it remembers, so a daemon
killed at any step goes on where things stand. Streams in flight stay on the engine they began on.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec

from appliance.api import types as t
from appliance.daemon.engine_command import command_of, layers_given
from appliance.daemon.engine_probe import greet, load, prove
from appliance.daemon.engine_units import EngineUnits, engine_name
from appliance.daemon.gateway_unit import gateway_holds, gateway_state, publish_table
from appliance.daemon.gpus import look
from appliance.daemon.residency import Residency, Wanted, footprint_view
from appliance.daemon.supervisor import Supervisor, Unit, UnitSpec
from appliance.daemon.wanted_revisions import wanted_revisions
from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.errors import IntramurosError, Unavailable
from appliance.kernel.terminal import harmless
from appliance.residency.plan import Place
from appliance.services import deployments as service
from appliance.services.context import Context

_START_PATIENCE = 300.0
_TRIES = 3
_PERMANENT = range(2, 10)
_POLL = 0.25
_LOOK = 5.0
_GPU_AGE = 10.0
_TOLD = 10
_GUEST_PATIENCE = 60.0
_SEE_SERVING = "See `intramuros serving show`, or ask again."
_LOOK_WHILE_OUT = 0.4
"""Seconds between two looks while a model is out of memory: a request that waits for it is noticed so soon."""


class Deployer:
    """Turns revisions into engines and routes."""

    def __init__(self, ctx: Context, supervisor: Supervisor, *, prefix: tuple[str, ...]) -> None:
        self._ctx = ctx
        self._supervisor = supervisor
        self._units = EngineUnits(ctx.appliance, prefix=prefix)
        self._wake = asyncio.Event()
        self._residency = Residency(ctx.appliance.settings)
        self._waits: dict[int, float] = {}
        self._members: tuple[Wanted, ...] = ()
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
            await self._pause()

    async def _pause(self) -> None:
        """Wait for a wake, for requests that wait for a model that is out, or for the time to look again."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + _LOOK
        while (left := latest - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_WHILE_OUT) if self._parked() else left):
                    await self._wake.wait()
                return
            waits: bool = bool(self._parked()) and await asyncio.to_thread(self._somebody_waits)
            if waits:
                return

    def _somebody_waits(self) -> bool:
        state = gateway_state(self._ctx.appliance.paths)
        return state is not None and any(seen.waiting for seen in state.revisions.values())

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
                            async with asyncio.timeout(0.5):
                                await self.changed.wait()

    @contextlib.asynccontextmanager
    async def in_memory(self, name: str, number: int) -> AsyncIterator[Path]:
        """Bring a live revision into memory for a question, keep it there, and give its engine's socket.

        Raises Unavailable `deployment.not_in_memory` when there is no room for it in time.
        """
        with self._residency.guest(number):
            self.wake()
            late = asyncio.get_running_loop().time() + _GUEST_PATIENCE
            while number in (parked := self._parked()):
                if parked[number] or asyncio.get_running_loop().time() > late:
                    why = f": {parked[number]}" if parked[number] else " yet"
                    raise Unavailable("deployment.not_in_memory", f"{name} is not in memory{why}.", hint=_SEE_SERVING)
                await asyncio.sleep(_POLL)
            yield self._units.socket(number)

    def unit_of(self, revision: int) -> Unit | None:
        """Return the engine of a revision."""
        return self._supervisor.get(engine_name(revision))

    async def _reconcile(self) -> None:
        live, starting = await asyncio.to_thread(wanted_revisions, self._ctx.appliance.database)
        self._members = (*live, *starting)
        known = {wanted.number: wanted for wanted in self._members}
        await self._look_at_gpus()
        running = self._running_numbers()
        others = await self._observe(known, running)
        for wanted in starting:  # an engine that a former daemon started for it still has to prove itself
            if wanted.number in running and wanted.number not in self._starting:
                await self._load(wanted)
        leaving = running - known.keys()
        for decision in self._residency.decide(self._members, others):
            wanted = known[decision.revision]
            if wanted.starting and (over := self._residency.over_limit(wanted)):
                await self._fail(wanted, over)
            elif decision.action == "load":
                await self._load(wanted)
            elif decision.action == "unload":
                self._residency.place(wanted.number, Place.LEAVING)
                leaving.add(wanted.number)
            elif wanted.starting and (decision.action == "refuse" or self._waited_too_long(wanted.number)):
                await self._fail(wanted, f"there is no room for it: {decision.why}")
        await asyncio.to_thread(publish_table, self._ctx, self._parked())
        await self._poke_gateway()
        for number in leaving - self._draining.keys():
            task = asyncio.create_task(self._drain(number), name=f"drain-{number}")
            self._draining[number] = task
            task.add_done_callback(partial(_forget, self._draining, number))

    async def _observe(self, known: dict[int, Wanted], running: set[int]) -> dict[int, int]:
        """Bring the books up to what runs; return what engines take that nobody wants any more (revision -> bytes)."""
        state = await asyncio.to_thread(gateway_state, self._ctx.appliance.paths)
        self._residency.forget_all_but({*known, *running})
        self._residency.observe(state)
        pids = {}
        for number in {*known, *running}:
            unit = self._supervisor.get(engine_name(number))
            if number in self._draining:
                self._residency.place(number, Place.LEAVING)
            elif unit is None or number not in running:
                self._residency.place(number, Place.ABSENT)
            elif unit.ready.is_set() and number not in self._starting:
                self._residency.place(number, Place.RESIDENT)
                if unit.identity is not None:
                    pids[number] = unit.identity.pid
            elif self._residency.place_of(number) != Place.RESIDENT:  # else it crashed, and keeps its place
                self._residency.place(number, Place.LOADING)
        await asyncio.to_thread(self._residency.measure, pids)
        for number in self._residency.to_greet():
            if (info := await greet(self._units.socket(number), timeout=1.0)) is not None:
                self._residency.greeted(number, info)
        left = {number: self._supervisor.get(engine_name(number)) for number in running - known.keys()}
        return {number: unit.view().memory_bytes for number, unit in left.items() if unit is not None}

    async def _look_at_gpus(self, *, older_than: float | None = None) -> None:
        if self._residency.gpus_to_look_at(older_than=older_than):
            self._residency.see(await asyncio.to_thread(look, self._units.prefix))

    def _waited_too_long(self, number: int) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._waits.setdefault(number, now) > _START_PATIENCE

    async def _load(self, wanted: Wanted) -> None:
        """Start the engine of a revision that has room; a starting one is proven before it gets traffic."""
        if wanted.number in self._draining:
            return
        self._waits.pop(wanted.number, None)
        spec = await asyncio.to_thread(self._spec_of, wanted)
        unit = self._supervisor.ensure(spec)
        self._residency.place(wanted.number, Place.LOADING)
        if wanted.number not in self._starting:
            work = self._start(unit, wanted) if wanted.starting else self._until_ready(unit, wanted)
            task = asyncio.create_task(work, name=f"start-{wanted.number}")
            self._starting[wanted.number] = task
            task.add_done_callback(partial(_forget, self._starting, wanted.number))

    async def _until_ready(self, unit: Unit, wanted: Wanted) -> None:
        """Wait until a live revision's engine answers. One that cannot come back in gives its place up for a while."""
        reason = await self._reason_it_failed(unit, wanted, proving=False)
        if reason and self._residency.falls_back(wanted, reason):
            await self._supervisor.stop(engine_name(wanted.number), patience=5.0)
        elif reason and wanted.number in self._parked():
            await self._supervisor.stop(engine_name(wanted.number), patience=5.0)
            self._residency.block(wanted.number, reason)
        self.wake()

    def _parked(self) -> dict[int, str]:
        return self._residency.parked(wanted for wanted in self._members if not wanted.starting)

    async def serving(self) -> t.ServingView:
        """Return who is in memory and why."""
        await self._look_at_gpus(older_than=_GPU_AGE)
        gpus, problem = self._residency.gpus()
        models = await asyncio.gather(*(self._resident(wanted) for wanted in self._members))
        room = await asyncio.to_thread(self._residency.room)
        return t.ServingView(
            budget=room.budget,
            used=self._used(),
            available=room.available,
            models=tuple(models),
            decisions=tuple(reversed(self._residency.decisions)),
            gpus=gpus,
            gpu_problem=problem,
        )

    def hindered(self) -> dict[str, str]:
        """Return the live deployments that cannot be brought into memory now, each with the reason."""
        parked = self._parked()
        return {wanted.deployment: parked[wanted.number] for wanted in self._members if parked.get(wanted.number)}

    async def resident(self, number: int) -> t.ResidentView | None:
        """Return a revision's place in memory and what its engine does now."""
        for wanted in self._members:
            if wanted.number == number:
                return await self._resident(wanted)
        return None

    def decisions(self, name: str) -> tuple[t.DecisionView, ...]:
        """Return what was decided about a deployment, newest first."""
        return tuple(one for one in reversed(self._residency.decisions) if one.deployment == name)[:_TOLD]

    async def _resident(self, wanted: Wanted) -> t.ResidentView:
        engine = await self._engine_load(wanted.number)
        return msgspec.structs.replace(self._residency.view(wanted), engine=engine)

    async def preview(self, name: str, planned: service.Planned) -> t.PlanView:
        """Return what deploying a version under a name would need and do; nothing is done."""
        newcomer = Wanted(
            number=0,
            deployment=name,
            ref=planned.ref,
            starting=True,
            artifact=planned.artifact,
            options=planned.options,
            policy=planned.policy,
            description=planned.description,
            draft=planned.draft,
        )
        await self._look_at_gpus(older_than=_GPU_AGE)
        footprint, decisions, placement = self._residency.preview(self._members, newcomer)
        now = to_text(utc_now())
        return t.PlanView(
            model=planned.ref,
            kind=planned.options.kind,
            predicted=footprint_view(footprint),
            budget=self._residency.room().budget,
            used=self._used(),
            decisions=tuple(
                t.DecisionView(at=now, action=one.action, deployment=one.name, revision=one.revision, why=one.why)
                for one in decisions
            ),
            placement=placement,
        )

    def _used(self) -> int:
        members = (self._residency.member(wanted) for wanted in self._members)
        return sum(member.needs for member in members if member.place != Place.ABSENT)

    async def _engine_load(self, number: int) -> t.EngineLoad | None:
        if self._supervisor.get(engine_name(number)) is None:
            return None
        state = await load(self._units.socket(number), timeout=1.0)
        if state is None:
            return None
        return t.EngineLoad(
            streams=state.active,
            queue=state.waiting,
            cells=state.cells,
            free_cells=state.free_cells,
            cached_cells=state.cached_cells,
            prompt_tokens=state.prompt_tokens,
            cached_tokens=state.cached_tokens,
            completion_tokens=state.completion_tokens,
            steps=state.steps,
            step_seconds=state.step_seconds,
            preempted=state.preempted,
            drafted_tokens=state.drafted_tokens,
            accepted_tokens=state.accepted_tokens,
            draft_model_drafted=state.draft_model_drafted,
            draft_model_accepted=state.draft_model_accepted,
        )

    async def _fail(self, wanted: Wanted, reason: str) -> None:
        await asyncio.to_thread(service.mark_failed, self._ctx, wanted.number, reason)
        async with self.changed:
            self.changed.notify_all()
        self.wake()

    async def _poke_gateway(self) -> None:
        """Let the gateway look at its table now. On a box it is another user's process: being asked makes it look."""
        gateway = self._supervisor.get("gateway")
        if gateway is None:
            await asyncio.to_thread(gateway_state, self._ctx.appliance.paths)
        elif gateway.ready.is_set():
            gateway.signal(signal.SIGHUP)

    async def _start(self, unit: Unit, wanted: Wanted) -> None:
        """Bring one revision up and move the traffic to it; on failure what was live stays."""
        reason = await self._reason_it_failed(unit, wanted, proving=True)
        if reason and self._residency.falls_back(wanted, reason):
            await self._supervisor.stop(engine_name(wanted.number), patience=5.0)
            self.wake()
            return
        if reason:
            await self._fail(wanted, self._with_a_hint(reason, unit, wanted))
            return
        await asyncio.to_thread(service.mark_live, self._ctx, wanted.number)
        async with self.changed:
            self.changed.notify_all()
        self.wake()

    async def _reason_it_failed(self, unit: Unit, wanted: Wanted, *, proving: bool) -> str:
        """Wait for the engine, and let it do a little work when `proving`; empty when that worked."""
        try:
            async with asyncio.timeout(_START_PATIENCE):
                while not unit.ready.is_set():
                    if unit.exit_status in _PERMANENT or unit.restarts >= _TRIES:
                        return self._last_words(wanted) or unit.detail
                    await asyncio.sleep(_POLL)
            if proving:
                await prove(self._units.socket(wanted.number))
        except TimeoutError:
            return f"the engine was not ready within {_START_PATIENCE:.0f} s"
        except IntramurosError as error:
            return harmless(str(error))
        return ""

    def _with_a_hint(self, reason: str, unit: Unit, wanted: Wanted) -> str:
        gpu = self._residency.placement_of(wanted.number).gpu
        if not gpu or unit.exit_status is None or unit.exit_status >= 0:
            return reason
        return f"{reason}, with layers on {gpu}: look at its driver, or deploy with --gpu-layers 0"

    def _last_words(self, wanted: Wanted) -> str:
        log = self._ctx.appliance.paths.logs / f"{engine_name(wanted.number)}.log"
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
        await self._supervisor.stop(engine_name(number), patience=30.0)
        self._units.socket(number).unlink(missing_ok=True)
        self.wake()
        for folder in (self._ctx.appliance.paths.worker_model(number), self._ctx.appliance.paths.worker_cache(number)):
            shutil.rmtree(folder, ignore_errors=True)

    async def _is_busy(self, number: int) -> bool:
        if await asyncio.to_thread(gateway_holds, self._ctx.appliance.paths, number):
            return True
        state = await load(self._units.socket(number))
        return state is not None and (state.active > 0 or state.waiting > 0)

    def _spec_of(self, wanted: Wanted) -> UnitSpec:
        return self._units.spec(wanted, self._residency.placement_of(wanted.number))

    def _running_numbers(self) -> set[int]:
        """Return the engines that run, those of a former daemon adopted: with their own way to be started again."""
        specs = {engine_name(wanted.number): wanted for wanted in self._members}
        for name, who in self._supervisor.adoptable("engine-").items():
            wanted = specs.get(name)
            number = int(name.removeprefix("engine-"))
            if wanted is not None:
                layers, gpu = layers_given(command_of(who.pid))
                self._residency.adopt(wanted, layers=layers, gpu=gpu)
            self._supervisor.ensure(self._units.stray(number) if wanted is None else self._spec_of(wanted))
        named = [view.name for view in self._supervisor.views() if view.name.startswith("engine-")]
        return {int(name.removeprefix("engine-")) for name in named}


def _forget(tasks: dict[int, asyncio.Task[None]], number: int, _task: asyncio.Task[None]) -> None:
    tasks.pop(number, None)
