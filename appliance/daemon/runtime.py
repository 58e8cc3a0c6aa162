"""The running daemon: supervisor, job runner, deployer and control API, started and stopped in order.

On a box (a gateway socket is given) systemd runs the gateway under a user of its own: the daemon then only publishes
the routing table and looks at the gateway's private socket, and root administers instead of an owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvicorn

from appliance.access.roles import ALL_ROLES, role_group_ids
from appliance.api import types as t
from appliance.api.border import server_config
from appliance.api.server import PeerProtocol, build_app
from appliance.daemon.coordinator import Coordinator
from appliance.daemon.deployer import Deployer
from appliance.daemon.engine_probe import answer
from appliance.daemon.gateway_unit import (
    gateway_spec,
    gateway_state,
    gateway_view,
    link_gateway_socket,
    publish_table,
)
from appliance.daemon.job_runner import JobRunner
from appliance.daemon.sandbox import network_prefix
from appliance.daemon.supervisor import Supervisor, resident_bytes
from appliance.kernel.errors import BadInput, Conflict, Forbidden, IntramurosError, NotFound, StorageFailure
from appliance.kernel.events import Progress
from appliance.kernel.notify import notify
from appliance.kernel.sharing import open_to_groups
from appliance.services import campaigns as campaign_service
from appliance.services import deployments as deployment_service
from appliance.services import jobs as job_service
from appliance.services.context import Appliance, Caller, Context

_SIGN_EVERY = 60.0
_RETRY = 5.0
_CAMPAIGN_POLL = 0.5
_GATEWAY_PATIENCE = 30.0


class Daemon:
    """Everything that lives between start and shutdown."""

    def __init__(self, appliance: Appliance, *, owner_uid: int | None, gateway_socket: Path | None = None) -> None:
        """Must be called in the running event loop."""
        prefix = network_prefix()
        self._appliance = appliance
        self._owner_uid = owner_uid
        self._gateway_socket = gateway_socket
        self._isolated = prefix is not None
        self._system = Context(appliance=appliance, caller=Caller(user="intramurosd", uid=os.getuid(), roles=ALL_ROLES))
        self._supervisor = Supervisor(root=appliance.paths.root, logs=appliance.paths.logs)
        self._runner = JobRunner(self._system, self._supervisor, prefix=prefix or ())
        self._deployer = Deployer(self._system, self._supervisor, prefix=prefix or ())
        self._coordinator = Coordinator(self._system, self.log, owner_uid=owner_uid, on_box=gateway_socket is not None)
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()

    async def serve(self) -> None:
        """Run until asked to stop, then stop everything in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._appliance.doorbell.listen(self._ring_from_any_thread)
        await asyncio.to_thread(publish_table, self._system)
        if self._gateway_socket is not None:
            link_gateway_socket(self._appliance.paths, self._gateway_socket)
        else:
            self._require_port()
            self._supervisor.ensure(gateway_spec(self._appliance))
        with self._appliance.database.write() as connection:
            self._system.record(connection, "appliance.start", "appliance")
        background = [
            asyncio.create_task(go_on_doing("jobs", self._runner.run), name="jobs"),
            asyncio.create_task(go_on_doing("deployments", self._deployer.run), name="deployments"),
            asyncio.create_task(go_on_doing("campaigns", self._coordinator.run), name="campaigns"),
            asyncio.create_task(go_on_doing("audit", self._sign_regularly), name="audit"),
        ]
        server, serving = self._control_api()
        notify("READY=1")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({stopping, serving, *background}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            stopping.cancel()
            notify("STOPPING=1")
            await self._shut_down(server, serving, background)

    def progress(self) -> dict[str, Progress]:
        """Return the newest progress of every running job."""
        return self._runner.progress()

    def units(self) -> tuple[t.UnitView, ...]:
        """Return every process: the daemon itself, then what it supervises."""
        own = t.UnitView(
            name="intramurosd",
            state="ready",
            pid=os.getpid(),
            since=self._appliance.started_at,
            memory_bytes=resident_bytes(os.getpid()),
        )
        gateway = (gateway_view(self._appliance.paths),) if self._gateway_socket is not None else ()
        return (own, *sorted((*gateway, *self._supervisor.views()), key=lambda unit: unit.name))

    def isolated(self) -> bool:
        """Tell whether engines and jobs run without a network."""
        return self._isolated

    def hindered(self) -> dict[str, str]:
        """Return the deployments that cannot be brought into memory now, each with the reason."""
        return self._deployer.hindered()

    def shut_down(self) -> None:
        """Ask for the orderly end; safe from any thread."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def job_events(self, ctx: Context, job: str, after: int, hold: float) -> t.JobEvents:
        """Return a page of a job's log, waiting for it up to `hold` seconds."""
        found = (await asyncio.to_thread(job_service.show, ctx, job, {})).job
        if hold:
            await self._runner.wait_for_events(found.id, after=after, hold=hold)
        log = self._runner.log(found.id)
        log.refresh()
        events = log.page(after)
        state = (await asyncio.to_thread(job_service.show, ctx, found.id, {})).job.state
        return t.JobEvents(events=events, next=events[-1].seq if events else after, state=state)

    def log(self, job: str) -> tuple[t.JobEvent, ...]:
        """Return every event of a job so far."""
        log = self._runner.log(job)
        log.refresh()
        return tuple(log.events)

    async def campaign(self, ctx: Context, campaign: str, seen: str, hold: float) -> t.CampaignDetail:
        """Return a campaign, waiting up to `hold` seconds until its mark is no longer `seen`."""
        deadline = self._loop.time() + hold
        while True:
            live = await asyncio.to_thread(self.progress)
            detail = await asyncio.to_thread(campaign_service.show, ctx, campaign, live)
            if detail.mark != seen or self._loop.time() >= deadline:
                return detail
            await asyncio.sleep(_CAMPAIGN_POLL)

    async def deployment(self, ctx: Context, name: str, revision: int, hold: float) -> t.DeploymentView:
        """Return a deployment, waiting until the revision has left `starting`."""
        view = await asyncio.to_thread(deployment_service.show, ctx, name)
        if hold and revision:
            await self._deployer.wait_until_settled(name, revision, hold)
            view = await asyncio.to_thread(deployment_service.show, ctx, name)
        return await self._with_worker(view)

    async def deployments(self, ctx: Context) -> tuple[t.DeploymentView, ...]:
        """Return every deployment with its engine."""
        views = await asyncio.to_thread(deployment_service.list_deployments, ctx)
        return tuple(await asyncio.gather(*(self._with_worker(view) for view in views)))

    async def try_prompt(self, ctx: Context, name: str, body: t.TryPrompt) -> t.TryAnswer:
        """Ask the live engine of a deployment one question; `NAME:LABEL` asks under one of its adapters."""
        deployed, _, adapter = name.partition(":")
        view = await asyncio.to_thread(deployment_service.show, ctx, deployed)
        if (live := view.live) is None:
            raise Conflict("deployment.not_live", f"{deployed} is not live.", hint="See `intramuros deployments`.")
        if adapter and adapter not in live.options.adapters:
            raise NotFound(
                "deployment.no_adapter",
                f"{deployed} is served without an adapter {adapter}.",
                hint=f"It has {', '.join(live.options.adapters) or 'none'}; see `intramuros deployments`.",
            )
        async with self._deployer.in_memory(deployed, live.number) as endpoint:
            return await answer(endpoint, prompt=body.prompt, adapter=adapter, max_tokens=body.max_tokens)

    async def serving(self, ctx: Context) -> t.ServingView:
        """Return who is in memory and why, with what each engine says of itself."""
        return await self._deployer.serving()

    async def plan_deploy(self, ctx: Context, name: str, body: t.PlanDeploy) -> t.PlanView:
        """Return what deploying a version would need and do."""
        model = await asyncio.to_thread(deployment_service.planned, ctx, name, body)
        return await self._deployer.preview(name, model)

    async def _with_worker(self, view: t.DeploymentView) -> t.DeploymentView:
        if view.live is None:
            return view
        live = view.live.number
        unit = self._deployer.unit_of(live)
        return msgspec.structs.replace(
            view,
            worker=unit.view() if unit is not None else None,
            resident=await self._deployer.resident(live),
            decisions=self._deployer.decisions(view.name),
        )

    def _ring_from_any_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        self._runner.wake()
        self._deployer.wake()
        self._coordinator.wake()

    async def _sign_regularly(self) -> None:
        while True:
            await asyncio.sleep(_SIGN_EVERY)
            await asyncio.to_thread(self._appliance.trail.sign_head, self._appliance.database)

    def _require_port(self) -> None:
        """Refuse to start when something else holds the gateway's port."""
        if gateway_state(self._appliance.paths) is not None or self._supervisor.adoptable("gateway"):
            return
        settings = self._appliance.settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, settings.port))
            except OSError as error:
                raise _port_problem(settings.host, settings.port, error) from error

    def _control_api(self) -> tuple[uvicorn.Server, asyncio.Task[None]]:
        app = build_app(self._appliance, self, owner_uid=self._owner_uid, on_box=self._gateway_socket is not None)
        server = uvicorn.Server(server_config(app, http=PeerProtocol))
        groups = role_group_ids() if self._gateway_socket is not None else frozenset()
        listener = _listen(self._appliance.paths.control_socket, groups=groups)
        return server, asyncio.create_task(server.serve(sockets=[listener]), name="control")

    async def _shut_down(
        self, server: uvicorn.Server, serving: asyncio.Task[None], background: list[asyncio.Task[None]]
    ) -> None:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._runner.stop()
        patience = min(self._appliance.settings.drain_timeout, _GATEWAY_PATIENCE)
        await self._supervisor.stop("gateway", patience=patience)
        await self._supervisor.stop_all(patience=patience)
        try:
            with self._appliance.database.write() as connection:
                self._system.record(connection, "appliance.stop", "appliance")
            self._appliance.trail.sign_head(self._appliance.database)
        except StorageFailure as error:  # everything else has stopped in order, and so does this
            print(f"the trail cannot say that the appliance stops: {error}", file=sys.stderr)
        self._appliance.database.close()
        with contextlib.suppress(FileNotFoundError):
            self._appliance.paths.control_socket.unlink()


def _port_problem(host: str, port: int, error: OSError) -> IntramurosError:
    where = f"{host}:{port} cannot be used: {error.strerror}."
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return Forbidden("gateway.port_forbidden", where, hint="Ports below 1024 need rights; choose a higher one.")
        case errno.EADDRINUSE:
            return Conflict("gateway.port_taken", where, hint="Stop what listens there, or choose another with --port.")
        case _:
            return BadInput("gateway.address", where, hint="Give an address of this machine with --host.")


async def go_on_doing(name: str, work: Callable[[], Awaitable[None]], *, pause: float = _RETRY) -> None:
    """Run a loop of the daemon, again after a failure: a full disk must not end what still serves."""
    while True:
        try:
            await work()
        except (IntramurosError, OSError) as error:
            print(f"{name} goes on in {pause:.0f} s: {error}", file=sys.stderr)
            await asyncio.sleep(pause)


def _listen(path: Path, *, groups: frozenset[int]) -> socket.socket:
    """Return a listening Unix socket that appears under its name only when it is ready: mode 0600, and `groups`."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(temporary))
    temporary.chmod(0o600)
    if groups:
        open_to_groups(temporary, groups)
    listener.listen(128)
    temporary.rename(path)
    return listener
