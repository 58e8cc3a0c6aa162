"""The control API's server side: routes to services, errors to problems, the caller from SO_PEERCRED.

It decides nothing itself. A service call is synchronous and runs in a thread; what waits (long polls) waits here.
"""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.access.roles import roles_of
from appliance.api import border
from appliance.api import types as t
from appliance.kernel.errors import Conflict, StorageFailure
from appliance.kernel.events import Progress
from appliance.services import (
    audit,
    backups,
    campaigns,
    dataset_jobs,
    dataset_rows,
    datasets,
    deployments,
    evaluations,
    fleet,
    job_outputs,
    jobs,
    keys,
    kfolds,
    model_export,
    models,
    pipelines,
    promotion,
    recipes,
    reruns,
    runs,
    searches,
    status,
    suites,
    training_plans,
)
from appliance.services.context import Appliance, Caller, Context

_CREDENTIALS = struct.Struct("iII")

B = TypeVar("B")


class Runtime(Protocol):
    """What the running daemon adds to the services: live progress, waiting, the processes themselves."""

    def progress(self) -> dict[str, Progress]: ...

    def units(self) -> tuple[t.UnitView, ...]: ...

    def isolated(self) -> bool: ...

    def hindered(self) -> dict[str, str]: ...

    def shut_down(self) -> None: ...

    def log(self, job: str) -> tuple[t.JobEvent, ...]: ...

    async def job_events(self, ctx: Context, job: str, after: int, hold: float) -> t.JobEvents: ...

    async def campaign(self, ctx: Context, campaign: str, seen: str, hold: float) -> t.CampaignDetail: ...

    async def deployment(self, ctx: Context, name: str, revision: int, hold: float) -> t.DeploymentView: ...

    async def deployments(self, ctx: Context) -> tuple[t.DeploymentView, ...]: ...

    async def try_prompt(self, ctx: Context, name: str, body: t.TryPrompt) -> t.TryAnswer: ...

    async def serving(self, ctx: Context) -> t.ServingView: ...

    async def plan_deploy(self, ctx: Context, name: str, body: t.PlanDeploy) -> t.PlanView: ...


class PeerProtocol(HttpToolsProtocol):
    """Puts the peer's uid, as the kernel states it, into each request of a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read SO_PEERCRED once per connection (unix(7))."""
        super().connection_made(transport)
        peer: socket.socket = transport.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        self.app_state = {**self.app_state, "uid": uid}


def build_app(
    appliance: Appliance, runtime: Runtime, *, owner_uid: int | None = None, on_box: bool = False
) -> Starlette:
    """Return the ASGI application. `owner_uid` is the user who is admin of an embedded run; on a box that is root."""
    app = Starlette(
        routes=_Routes(appliance, runtime, owner_uid, on_box).table(),
        exception_handlers={HTTPException: border.no_route},
    )
    app.router.redirect_slashes = False
    return app


class _Routes:
    def __init__(self, appliance: Appliance, runtime: Runtime, owner_uid: int | None, on_box: bool) -> None:
        self._appliance = appliance
        self._runtime = runtime
        self._owner_uid = owner_uid
        self._on_box = on_box

    def table(self) -> list[Route]:
        """Every route: one line each, in the order of appliance.api.calls."""
        live = self._runtime.progress
        return [
            self._route("GET", "/v1/whoami", self._read(_whoami)),
            self._route("GET", "/v1/status", self._read(self._status)),
            self._route("POST", "/v1/shutdown", self._read(self._shut_down)),
            self._route("GET", "/v1/models", self._read(models.list_models)),
            self._route("POST", "/v1/models/import", self._write(t.ImportModel, models.import_model)),
            self._route("POST", "/v1/models/register", self._write(t.RegisterModel, models.register)),
            self._route("GET", "/v1/models/{ref}", self._named("ref", models.show)),
            self._route("DELETE", "/v1/models/{ref}", self._named("ref", models.remove)),
            self._route("POST", "/v1/models/{ref}/verify", self._named("ref", models.verify)),
            self._route("POST", "/v1/models/{ref}/export", self._change("ref", t.ExportModel, model_export.export)),
            self._route("POST", "/v1/models/{ref}/promote", self._change("ref", t.Promote, promotion.promote)),
            self._route("POST", "/v1/models/{ref}/approve", self._change("ref", t.Approve, promotion.approve)),
            self._route("GET", "/v1/datasets", self._read(datasets.list_datasets)),
            self._route("POST", "/v1/datasets/import", self._write(t.ImportDataset, datasets.import_dataset)),
            self._route("POST", "/v1/datasets/generate", self._write(t.GenerateDataset, dataset_jobs.generate)),
            self._route("GET", "/v1/datasets/{ref}", self._named("ref", datasets.show)),
            self._route("DELETE", "/v1/datasets/{ref}", self._named("ref", datasets.remove)),
            self._route("GET", "/v1/datasets/{ref}/rows", self._dataset_rows),
            self._route("GET", "/v1/datasets/{ref}/diff/{other}", self._dataset_diff),
            self._route("POST", "/v1/datasets/{ref}/check", self._change("ref", t.CheckDataset, dataset_jobs.check)),
            self._route("POST", "/v1/datasets/{ref}/split", self._change("ref", t.SplitDataset, dataset_jobs.split)),
            self._route("GET", "/v1/suites", self._read(suites.list_suites)),
            self._route("POST", "/v1/suites/import", self._write(t.ImportSuite, suites.import_suite)),
            self._route("GET", "/v1/suites/{ref}", self._named("ref", suites.show)),
            self._route("DELETE", "/v1/suites/{ref}", self._named("ref", suites.remove)),
            self._route("POST", "/v1/evaluations/compare", self._write(t.Compare, evaluations.compare)),
            self._route("GET", "/v1/jobs", self._read(lambda ctx: jobs.list_jobs(ctx, live()))),
            self._route("POST", "/v1/jobs", self._write(t.SubmitJob, jobs.submit)),
            self._route("GET", "/v1/recipes", self._read(recipes.list_recipes)),
            self._route("POST", "/v1/jobs/plan", self._write(t.SubmitJob, training_plans.plan_training)),
            self._route("GET", "/v1/jobs/{id}", self._named("id", lambda ctx, job: jobs.show(ctx, job, live()))),
            self._route("GET", "/v1/jobs/{id}/events", self._job_events),
            self._route("GET", "/v1/jobs/{id}/output", self._job_output),
            self._route("POST", "/v1/jobs/{id}/cancel", self._named("id", jobs.cancel)),
            self._route("POST", "/v1/jobs/{id}/resume", self._named("id", jobs.resume)),
            self._route(
                "GET", "/v1/runs/{id}", self._named("id", lambda ctx, run: runs.show(ctx, run, self._runtime.log))
            ),
            self._route("POST", "/v1/runs/{id}/repeat", self._named("id", runs.repeat)),
            self._route("POST", "/v1/runs/{id}/verify", self._named("id", reruns.verify)),
            self._route("GET", "/v1/campaigns", self._campaigns),
            self._route("POST", "/v1/campaigns/search", self._write(t.SubmitSearch, searches.submit)),
            self._route("POST", "/v1/campaigns/kfold", self._write(t.SubmitKfold, kfolds.submit)),
            self._route("POST", "/v1/campaigns/pipeline", self._write(t.SubmitPipeline, pipelines.submit)),
            self._route("GET", "/v1/campaigns/{id}", self._campaign),
            self._route("POST", "/v1/campaigns/{id}/cancel", self._named("id", campaigns.cancel)),
            self._route("POST", "/v1/campaigns/{id}/resume", self._named("id", campaigns.resume)),
            self._route("GET", "/v1/deployments", self._deployments),
            self._route("GET", "/v1/deployments/{name}", self._deployment),
            self._route("DELETE", "/v1/deployments/{name}", self._named("name", deployments.remove)),
            self._route("POST", "/v1/deployments/{name}/deploy", self._change("name", t.Deploy, deployments.deploy)),
            self._route(
                "POST", "/v1/deployments/{name}/rollback", self._change("name", t.RollBack, deployments.roll_back)
            ),
            self._route(
                "POST", "/v1/deployments/{name}/policy", self._change("name", t.PolicyChange, deployments.set_policy)
            ),
            self._route("GET", "/v1/serving", self._serving),
            self._route("POST", "/v1/deployments/{name}/plan", self._plan_deploy),
            self._route("POST", "/v1/deployments/{name}/try", self._try),
            self._route("GET", "/v1/keys", self._read(keys.list_keys)),
            self._route("POST", "/v1/keys", self._write(t.CreateKey, keys.create)),
            self._route("DELETE", "/v1/keys/{id}", self._named("id", keys.revoke)),
            self._route("GET", "/v1/fleet", self._read(fleet.list_boxes)),
            self._route("GET", "/v1/approvers", self._read(promotion.list_approvers)),
            self._route("POST", "/v1/approvers", self._write(t.EnrolApprover, promotion.enrol)),
            self._route("GET", "/v1/audit", self._audit_page),
            self._route("GET", "/v1/audit/verify", self._read(audit.verify)),
            self._route("GET", "/v1/audit/export", self._read(audit.export)),
            self._route("GET", "/v1/backups", self._read(backups.list_backups)),
            self._route("POST", "/v1/backups", self._read(backups.create)),
            self._route("POST", "/v1/backups/verify", self._read(backups.verify)),
        ]

    def _route(self, method: str, path: str, handler: border.Handler) -> Route:
        return border.route(method, path, handler, log="logs/daemon.log in the state directory")

    def _context(self, request: Request) -> Context:
        uid: int = request.state.uid
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = f"uid{uid}"
        caller = Caller(user=user, uid=uid, roles=roles_of(uid, self._owner_uid, on_box=self._on_box))
        ctx = Context(appliance=self._appliance, caller=caller)
        ctx.authorise("read", request.url.path)
        return ctx

    def _read(self, service: Callable[[Context], Any]) -> border.Handler:
        async def handler(request: Request) -> Response:
            return border.answer(await asyncio.to_thread(service, self._context(request)))

        return handler

    def _named(self, parameter: str, service: Callable[[Context, str], Any]) -> border.Handler:
        async def handler(request: Request) -> Response:
            ctx, name = self._context(request), request.path_params[parameter]
            return border.answer(await asyncio.to_thread(service, ctx, name))

        return handler

    def _write(self, form: type[B], service: Callable[[Context, B], Any]) -> border.Handler:
        async def handler(request: Request) -> Response:
            ctx, body = self._context(request), await border.body(request, form)
            return border.answer(await asyncio.to_thread(service, ctx, body))

        return handler

    def _change(self, parameter: str, form: type[B], service: Callable[[Context, str, B], Any]) -> border.Handler:
        async def handler(request: Request) -> Response:
            ctx, body = self._context(request), await border.body(request, form)
            return border.answer(await asyncio.to_thread(service, ctx, request.path_params[parameter], body))

        return handler

    def _status(self, ctx: Context) -> t.StatusView:
        return status.status(
            ctx, self._runtime.units(), isolated=self._runtime.isolated(), hindered=self._runtime.hindered()
        )

    def _shut_down(self, ctx: Context) -> t.StatusView:
        ctx.authorise("appliance.shutdown", "appliance")
        if self._on_box:
            raise Conflict(
                "appliance.run_by_systemd",
                "systemd runs this appliance and would start it again.",
                hint="As root: systemctl stop intramuros.target",
            )
        try:
            with ctx.appliance.database.write() as connection:
                ctx.record(connection, "appliance.shutdown", "appliance")
        except StorageFailure as error:  # a full disk is when somebody must be able to stop it
            print(f"{ctx.caller.user} stops the appliance; the trail cannot say so: {error}", file=sys.stderr)
        view = self._status(ctx)
        self._runtime.shut_down()
        return view

    async def _job_events(self, request: Request) -> Response:
        ctx = self._context(request)
        after, hold = border.number(request, "after", 0), border.hold(request)
        return border.answer(await self._runtime.job_events(ctx, request.path_params["id"], after, hold))

    async def _job_output(self, request: Request) -> Response:
        ctx, job, path = self._context(request), request.path_params["id"], request.query_params.get("file", "")
        return border.answer(await asyncio.to_thread(job_outputs.read, ctx, job, path))

    async def _dataset_rows(self, request: Request) -> Response:
        ctx, ref, part = self._context(request), request.path_params["ref"], request.query_params.get("part", "train")
        after, limit = border.number(request, "after", 0), border.number(request, "limit", 500)
        return border.answer(
            await asyncio.to_thread(lambda: dataset_rows.page(ctx, ref, part=part, after=after, limit=limit))
        )

    async def _dataset_diff(self, request: Request) -> Response:
        ctx, ref, other = self._context(request), request.path_params["ref"], request.path_params["other"]
        return border.answer(await asyncio.to_thread(dataset_rows.diff, ctx, ref, other))

    async def _campaigns(self, request: Request) -> Response:
        ctx, kind = self._context(request), request.query_params.get("kind", "")
        return border.answer(await asyncio.to_thread(campaigns.list_campaigns, ctx, kind))

    async def _campaign(self, request: Request) -> Response:
        ctx, seen = self._context(request), request.query_params.get("seen", "")
        return border.answer(await self._runtime.campaign(ctx, request.path_params["id"], seen, border.hold(request)))

    async def _deployments(self, request: Request) -> Response:
        return border.answer(await self._runtime.deployments(self._context(request)))

    async def _deployment(self, request: Request) -> Response:
        ctx = self._context(request)
        revision, hold = border.number(request, "revision", 0), border.hold(request)
        return border.answer(await self._runtime.deployment(ctx, request.path_params["name"], revision, hold))

    async def _try(self, request: Request) -> Response:
        ctx, body = self._context(request), await border.body(request, t.TryPrompt)
        return border.answer(await self._runtime.try_prompt(ctx, request.path_params["name"], body))

    async def _serving(self, request: Request) -> Response:
        return border.answer(await self._runtime.serving(self._context(request)))

    async def _plan_deploy(self, request: Request) -> Response:
        ctx, body = self._context(request), await border.body(request, t.PlanDeploy)
        return border.answer(await self._runtime.plan_deploy(ctx, request.path_params["name"], body))

    async def _audit_page(self, request: Request) -> Response:
        ctx = self._context(request)
        before, limit = border.number(request, "before", 0), border.number(request, "limit", 100)
        action = request.query_params.get("action", "")
        return border.answer(
            await asyncio.to_thread(lambda: audit.page(ctx, before=before, limit=limit, action=action))
        )


def _whoami(ctx: Context) -> t.WhoAmI:
    return t.WhoAmI(user=ctx.caller.user, uid=ctx.caller.uid, roles=tuple(sorted(ctx.caller.roles)))
