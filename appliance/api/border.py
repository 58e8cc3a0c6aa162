"""The border of an HTTP side: errors become problems, bodies and queries are checked, answers are JSON.

Shared by the control API and by the rank host; neither decides anything here.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.kernel.errors import BadInput, InternalError, IntramurosError, NotFound, storage_failure
from appliance.kernel.problem import problem_of

B = TypeVar("B")
Handler = Callable[[Request], Awaitable[Response]]

BODY_LIMIT = 1 << 20
_HOLD_LIMIT = 60.0
_DIGITS = 18


def route(method: str, path: str, handler: Handler, *, log: str) -> Route:
    """Return a route that answers every error with its problem; `log` says where a defect's details are."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except IntramurosError as error:
            return problem(error)
        except OSError as error:
            return problem(storage_failure(error, doing=f"answering {method} {path}"))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception as error:  # noqa: BLE001 - the border of the request handler
            traceback.print_exc()
            return problem(
                InternalError(
                    "api.defect",
                    f"{method} {path} stopped on an unexpected {type(error).__name__}.",
                    hint=f"{log} has the details.",
                )
            )

    return Route(path, guarded, methods=[method])


async def no_route(request: Request, _error: Exception) -> Response:
    """Answer a path or a method that there is not."""
    return problem(NotFound("api.route", f"There is no call {request.method} {request.url.path[:200]}."))


async def body(request: Request, form: type[B], *, limit: int = BODY_LIMIT) -> B:
    """Return the request's JSON body, `{}` if it has none. Raises BadInput."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > limit:
            raise BadInput("api.body_too_large", f"A request body may have {limit} bytes at most.")
    try:
        return msgspec.json.decode(bytes(data) or b"{}", type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("api.body", f"The request body is not valid: {error}.") from error


def number(request: Request, name: str, default: int) -> int:
    """Return a whole number of the query. Raises BadInput."""
    text = request.query_params.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise BadInput("api.query", f"{name}={text[:40]!r} is not a number.")
    return int(text) if text else default


def hold(request: Request) -> float:
    """Return how many seconds the answer may wait for news, a minute at most. Raises BadInput."""
    text = request.query_params.get("hold", "0")
    try:
        return max(0.0, min(float(text), _HOLD_LIMIT))
    except ValueError as error:
        raise BadInput("api.query", f"hold={text!r} is not a number of seconds.") from error


def answer(value: Any) -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def problem(error: IntramurosError) -> Response:
    """Return an error's document under its HTTP status."""
    document = msgspec.json.encode(problem_of(error))
    return Response(document, status_code=error.http_status, media_type="application/json")


def server_config(app: Starlette, *, http: type[HttpToolsProtocol] = HttpToolsProtocol) -> uvicorn.Config:
    """Return how such a side is served: in the loop that runs, without a log of every call."""
    return uvicorn.Config(
        app,
        http=http,
        loop="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
