"""The rank host's HTTP side; `appliance.fleet.wire` lists its calls."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import psutil
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from appliance.api import border
from appliance.fleet.wire import BoxFacts, Order, Start
from appliance.kernel.errors import BadInput
from appliance.rankhost.runs import Runs
from appliance.services.planning import held_by_jobs
from appliance.services.version import product_version

_KEY: Final = re.compile(r"[0-9A-Z]{26}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ORDER_LIMIT: Final = 8 << 20


def build_app(runs: Runs, *, name: str) -> Starlette:
    """Return the ASGI application of the box called `name`."""
    routes = _Routes(runs, name)
    app = Starlette(
        routes=[
            border.route(method, path, handler, log="The journal of intramuros-ranks")
            for method, path, handler in (
                ("GET", "/", routes.facts),
                ("PUT", "/runs/{key}", routes.lay_out),
                ("PUT", "/runs/{key}/given/{digest}", routes.receive),
                ("POST", "/runs/{key}/start", routes.start),
                ("GET", "/runs/{key}", routes.view),
                ("GET", "/runs/{key}/out/{path:path}", routes.made),
                ("POST", "/runs/{key}/stop", routes.stop),
                ("DELETE", "/runs/{key}", routes.forget),
            )
        ],
        exception_handlers={HTTPException: border.no_route},
    )
    app.router.redirect_slashes = False
    return app


class _Routes:
    def __init__(self, runs: Runs, name: str) -> None:
        self._runs = runs
        self._name = name

    async def facts(self, _request: Request) -> Response:
        own, memory = self._runs.environment, psutil.virtual_memory()
        return border.answer(
            BoxFacts(
                name=self._name,
                version=product_version(),
                code=own.code,
                packages=own.packages,
                cpu=own.cpu,
                threads=own.threads,
                memory=memory.total,
                memory_available=memory.available,
                running=self._runs.running,
                held=await asyncio.to_thread(held_by_jobs),
            )
        )

    async def lay_out(self, request: Request) -> Response:
        order = await border.body(request, Order, limit=_ORDER_LIMIT)
        return border.answer(await self._runs.lay_out(_key(request), order))

    async def receive(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if not _DIGEST.fullmatch(digest):
            raise BadInput("rankhost.digest", f"{digest[:80]!r} is not a SHA-256 digest.")
        await self._runs.receive(_key(request), digest, request.stream())
        return Response(status_code=204)

    async def start(self, request: Request) -> Response:
        body = await border.body(request, Start)
        return border.answer(await self._runs.start(_key(request), body.placement))

    async def view(self, request: Request) -> Response:
        after, hold = border.number(request, "after", 0), border.hold(request)
        return border.answer(await self._runs.view(_key(request), after=after, hold=hold))

    async def made(self, request: Request) -> Response:
        return FileResponse(self._runs.made(_key(request), request.path_params["path"]))

    async def stop(self, request: Request) -> Response:
        await self._runs.stop(_key(request))
        return Response(status_code=204)

    async def forget(self, request: Request) -> Response:
        await self._runs.forget(_key(request))
        return Response(status_code=204)


def _key(request: Request) -> str:
    key: str = request.path_params["key"]
    if not _KEY.fullmatch(key):
        raise BadInput("rankhost.key", f"{key[:80]!r} cannot be the key of a run.")
    return key
