"""The control API's server side: routes to services, errors to problems, the caller from SO_PEERCRED.

It decides nothing itself. A service call is synchronous and runs in a thread; what waits (long polls) waits here.
"""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.access.roles import roles_of
from appliance.api import types as t
from appliance.kernel.errors import (
    BadInput,
    Conflict,
    InternalError,
    IntramurosError,
    NotFound,
    StorageFailure,
    storage_failure,
)
from appliance.kernel.events import Progress
from appliance.kernel.problem import problem_of
from appliance.services import (
    audit,
    backups,
    campaigns,
    dataset_jobs,
    dataset_rows,
    datasets,
    deployments,
    evaluations,
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

_HOLD_LIMIT = 60.0
_BODY_LIMIT = 1 << 20
_DIGITS = 18
_CREDENTIALS = struct.Struct("iII")

B = TypeVar("B")
Handler = Callable[[Request], Awaitable[Response]]


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
        routes=_Routes(appliance, runtime, owner_uid, on_box).table(), exception_handlers={HTTPException: _no_route}
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
            self._route("GET", "/v1/approvers", self._read(promotion.list_approvers)),
            self._route("POST", "/v1/approvers", self._write(t.EnrolApprover, promotion.enrol)),
            self._route("GET", "/v1/audit", self._audit_page),
            self._route("GET", "/v1/audit/verify", self._read(audit.verify)),
            self._route("GET", "/v1/audit/export", self._read(audit.export)),
            self._route("GET", "/v1/backups", self._read(backups.list_backups)),
            self._route("POST", "/v1/backups", self._read(backups.create)),
            self._route("POST", "/v1/backups/verify", self._read(backups.verify)),
        ]

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except IntramurosError as error:
                return _problem(error)
            except OSError as error:
                return _problem(storage_failure(error, doing=f"answering {method} {path}"))
            except ClientDisconnect:
                return Response(status_code=400)  # nobody is there to read it
            except Exception as error:  # noqa: BLE001 - the border of the request handler
                traceback.print_exc()
                return _problem(
                    InternalError(
                        "api.defect",
                        f"{method} {path} stopped on an unexpected {type(error).__name__}.",
                        hint="logs/daemon.log in the state directory has the details.",
                    )
                )

        return Route(path, guarded, methods=[method])

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

    def _read(self, service: Callable[[Context], Any]) -> Handler:
        async def handler(request: Request) -> Response:
            return _answer(await asyncio.to_thread(service, self._context(request)))

        return handler

    def _named(self, parameter: str, service: Callable[[Context, str], Any]) -> Handler:
        async def handler(request: Request) -> Response:
            ctx, name = self._context(request), request.path_params[parameter]
            return _answer(await asyncio.to_thread(service, ctx, name))

        return handler

    def _write(self, form: type[B], service: Callable[[Context, B], Any]) -> Handler:
        async def handler(request: Request) -> Response:
            ctx, body = self._context(request), await _body(request, form)
            return _answer(await asyncio.to_thread(service, ctx, body))

        return handler

    def _change(self, parameter: str, form: type[B], service: Callable[[Context, str, B], Any]) -> Handler:
        async def handler(request: Request) -> Response:
            ctx, body = self._context(request), await _body(request, form)
            return _answer(await asyncio.to_thread(service, ctx, request.path_params[parameter], body))

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
        after, hold = _number(request, "after", 0), _hold(request)
        return _answer(await self._runtime.job_events(ctx, request.path_params["id"], after, hold))

    async def _job_output(self, request: Request) -> Response:
        ctx, job, path = self._context(request), request.path_params["id"], request.query_params.get("file", "")
        return _answer(await asyncio.to_thread(job_outputs.read, ctx, job, path))

    async def _dataset_rows(self, request: Request) -> Response:
        ctx, ref, part = self._context(request), request.path_params["ref"], request.query_params.get("part", "train")
        after, limit = _number(request, "after", 0), _number(request, "limit", 500)
        return _answer(
            await asyncio.to_thread(lambda: dataset_rows.page(ctx, ref, part=part, after=after, limit=limit))
        )

    async def _dataset_diff(self, request: Request) -> Response:
        ctx, ref, other = self._context(request), request.path_params["ref"], request.path_params["other"]
        return _answer(await asyncio.to_thread(dataset_rows.diff, ctx, ref, other))

    async def _campaigns(self, request: Request) -> Response:
        ctx, kind = self._context(request), request.query_params.get("kind", "")
        return _answer(await asyncio.to_thread(campaigns.list_campaigns, ctx, kind))

    async def _campaign(self, request: Request) -> Response:
        ctx, seen = self._context(request), request.query_params.get("seen", "")
        return _answer(await self._runtime.campaign(ctx, request.path_params["id"], seen, _hold(request)))

    async def _deployments(self, request: Request) -> Response:
        return _answer(await self._runtime.deployments(self._context(request)))

    async def _deployment(self, request: Request) -> Response:
        ctx = self._context(request)
        revision, hold = _number(request, "revision", 0), _hold(request)
        return _answer(await self._runtime.deployment(ctx, request.path_params["name"], revision, hold))

    async def _try(self, request: Request) -> Response:
        ctx, body = self._context(request), await _body(request, t.TryPrompt)
        return _answer(await self._runtime.try_prompt(ctx, request.path_params["name"], body))

    async def _serving(self, request: Request) -> Response:
        return _answer(await self._runtime.serving(self._context(request)))

    async def _plan_deploy(self, request: Request) -> Response:
        ctx, body = self._context(request), await _body(request, t.PlanDeploy)
        return _answer(await self._runtime.plan_deploy(ctx, request.path_params["name"], body))

    async def _audit_page(self, request: Request) -> Response:
        ctx = self._context(request)
        before, limit = _number(request, "before", 0), _number(request, "limit", 100)
        action = request.query_params.get("action", "")
        return _answer(await asyncio.to_thread(lambda: audit.page(ctx, before=before, limit=limit, action=action)))


async def _no_route(request: Request, _error: Exception) -> Response:
    return _problem(NotFound("api.route", f"There is no call {request.method} {request.url.path[:200]}."))


def _whoami(ctx: Context) -> t.WhoAmI:
    return t.WhoAmI(user=ctx.caller.user, uid=ctx.caller.uid, roles=tuple(sorted(ctx.caller.roles)))


async def _body(request: Request, form: type[B]) -> B:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > _BODY_LIMIT:
            raise BadInput("api.body_too_large", f"A request body may have {_BODY_LIMIT} bytes at most.")
    try:
        return msgspec.json.decode(bytes(data) or b"{}", type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("api.body", f"The request body is not valid: {error}.") from error


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise BadInput("api.query", f"{name}={text[:40]!r} is not a number.")
    return int(text) if text else default


def _hold(request: Request) -> float:
    text = request.query_params.get("hold", "0")
    try:
        return max(0.0, min(float(text), _HOLD_LIMIT))
    except ValueError as error:
        raise BadInput("api.query", f"hold={text!r} is not a number of seconds.") from error


def _answer(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _problem(error: IntramurosError) -> Response:
    document = msgspec.json.encode(problem_of(error))
    return Response(document, status_code=error.http_status, media_type="application/json")
