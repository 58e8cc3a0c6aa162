"""The public ASGI application: a table of paths, each answered in OpenAI's shapes.

Raw ASGI rather than a framework: an exact look-up replaces routing on a measured path, and events go from the
engine's frame to the socket without layers between. Here, and only here, an unforeseen exception becomes a 500.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any, Final

import msgspec

from appliance.gateway import openapi
from appliance.gateway.answers import Identity
from appliance.gateway.encoding import Encoding
from appliance.gateway.endpoints import (
    ENCODINGS,
    GENERATIONS,
    TOKENS,
    EncodingEndpoint,
    GenerationEndpoint,
    ModelCard,
    ModelList,
    TokenEndpoint,
)
from appliance.gateway.engine_link import ClientGone
from appliance.gateway.gate import Turnstile, asker_of, authenticate, may_use, require_model
from appliance.gateway.generation import Generation
from appliance.gateway.hang_up import while_listening
from appliance.gateway.inlet import Inlet, Receive
from appliance.gateway.observe import Observer, Visit
from appliance.gateway.refusals import (
    Refusal,
    bad_request,
    defect,
    method_wrong,
    model_not_loaded,
    model_unknown,
    route_unknown,
    wrong_endpoint,
)
from appliance.gateway.reply import Reply, Send
from appliance.gateway.switchboard import Switchboard
from appliance.gateway.table import KeyEntry, Route
from appliance.gateway.token_counts import ask_tokens
from appliance.kernel.clock import to_text, utc_now

_HUNG_UP: Final = 499
"""status in log and metrics of a request whose client left before the answer began (nginx's number)"""

log = logging.getLogger(__name__)


class PublicSide:
    """What end users see."""

    def __init__(self, board: Switchboard, turnstile: Turnstile, observer: Observer) -> None:
        self._board = board
        self._turnstile = turnstile
        self._observer = observer

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        visit = Visit(id=f"req-{secrets.token_hex(12)}", at=to_text(utc_now()), started=time.monotonic())
        reply = Reply(send, visit)
        inlet = Inlet(receive, scope["headers"])
        try:
            await self._answer(scope, inlet, reply, visit)
        except Refusal as refusal:
            await _refuse(reply, refusal, inlet)
        except ClientGone:
            visit.code = "client_gone"
        except asyncio.CancelledError:
            visit.code = "drain_timeout"
            raise
        except Exception:  # the border: nothing of ours may leave a client waiting
            log.exception("request %s failed", visit.id)
            visit.code = "internal_error"
            if not reply.started:
                await reply.refuse(defect())
        finally:
            visit.status = visit.status or _HUNG_UP
            self._observer.close_visit(visit, time.monotonic())

    async def _answer(self, scope: Any, inlet: Inlet, reply: Reply, visit: Visit) -> None:
        method, path = scope["method"], scope["path"]
        if path == "/healthz":
            visit.route = path
            _require(method, "GET", path)
            await reply.json(b'{"status":"ok"}')
        elif (endpoint := GENERATIONS.get(path) or TOKENS.get(path) or ENCODINGS.get(path)) is not None:
            visit.route = path
            _require(method, "POST", path)
            key = self._enter(scope, visit)
            with (
                self._turnstile.pass_through(asker_of(key), self._board.limits),
                self._observer.in_flight.track_inprogress(),
            ):
                body = await inlet.body(self._board.limits.body_limit)
                if isinstance(endpoint, GenerationEndpoint):
                    await self._generate(endpoint, body, key, inlet, reply, visit)
                elif isinstance(endpoint, TokenEndpoint):
                    await self._convert(endpoint, body, key, inlet, reply, visit)
                else:
                    await self._encode(endpoint, body, key, inlet, reply, visit)
        elif path == "/v1/models" or path.startswith("/v1/models/"):
            visit.route = "/v1/models"
            _require(method, "GET", path)
            key = self._enter(scope, visit)
            await reply.json(self._models(key, path.removeprefix("/v1/models").removeprefix("/")))
        elif path == "/openapi.json":
            visit.route = path
            _require(method, "GET", path)
            self._enter(scope, visit)
            await reply.json(openapi.document())
        else:
            raise route_unknown(path)

    def _enter(self, scope: Any, visit: Visit) -> KeyEntry:
        key = authenticate(scope["headers"], self._board.keys, time.time())
        visit.key = key.id
        return key

    def _models(self, key: KeyEntry, name: str) -> bytes:
        if name:
            return msgspec.json.encode(_card(name, self._route(key, name)))
        routes = sorted(self._board.table.routes.items())
        return msgspec.json.encode(ModelList(data=[_card(name, route) for name, route in routes if may_use(key, name)]))

    def _route(self, key: KeyEntry, model: str) -> Route:
        route = self._board.route(model)
        if route is None:
            raise model_unknown(model)
        require_model(key, model)
        return route

    async def _generate(
        self, endpoint: GenerationEndpoint, body: bytes, key: KeyEntry, inlet: Inlet, reply: Reply, visit: Visit
    ) -> None:
        plan = endpoint.parse(body)
        route = self._route(key, plan.model)
        visit.model, visit.revision = plan.model, route.revision
        if route.kind != "generate":
            raise wrong_endpoint(plan.model, route.kind, visit.route)
        route = await self._loaded(plan.model, route, inlet, visit)
        identity = Identity(
            id=endpoint.prefix + secrets.token_hex(12),
            created=int(time.time()),
            model=plan.model,
            system_fingerprint=f"r{route.revision}-{route.digest[:12]}",
        )
        form = endpoint.form(identity, plan)
        generation = Generation(plan, form, visit, adapter=route.adapter)
        await generation.run(self._board.link(route), asker_of(key), inlet.receive, reply)

    async def _encode(
        self, endpoint: EncodingEndpoint, body: bytes, key: KeyEntry, inlet: Inlet, reply: Reply, visit: Visit
    ) -> None:
        plan = endpoint.parse(body)
        model = plan.model or self._only_moderator(key)
        route = self._route(key, model)
        visit.model, visit.revision = model, route.revision
        if route.kind != plan.kind:
            raise wrong_endpoint(model, route.kind, visit.route)
        route = await self._loaded(model, route, inlet, visit)
        await Encoding(plan, route, model, visit).run(self._board.link(route), asker_of(key), inlet.receive, reply)

    async def _loaded(self, model: str, route: Route, inlet: Inlet, visit: Visit) -> Route:
        """Wait until the model is in memory. Raises Refusal (503), or ClientGone when nobody waits any more."""
        if not route.parked:
            return route
        found = await while_listening(inlet.receive, self._board.until_loaded(model))
        if found is None or found.kind != route.kind:
            raise model_unknown(model)
        if found.parked:
            raise model_not_loaded(model, found.obstacle, retry_after=self._board.load_seconds(found))
        visit.revision = found.revision
        return found

    def _only_moderator(self, key: KeyEntry) -> str:
        """OpenAI lets clients of /v1/moderations leave the model out; that is clear only while there is one."""
        names = [name for name, route in self._board.table.routes.items() if route.categories and may_use(key, name)]
        if len(names) != 1:
            raise bad_request(
                f"model is missing, and {len(names)} deployments moderate for this key; name one.", param="model"
            )
        return names[0]

    async def _convert(
        self, endpoint: TokenEndpoint, body: bytes, key: KeyEntry, inlet: Inlet, reply: Reply, visit: Visit
    ) -> None:
        model, ask = endpoint.parse(body)
        route = self._route(key, model)
        visit.model, visit.revision = model, route.revision
        if route.kind != "generate":
            raise wrong_endpoint(model, route.kind, visit.route)
        route = await self._loaded(model, route, inlet, visit)
        await reply.json(await ask_tokens(self._board.link(route), model, ask))


async def _refuse(reply: Reply, refusal: Refusal, inlet: Inlet) -> None:
    """Answer with an error. A long unread body ends the connection, but only once the client could see why."""
    if inlet.long_unread:
        await reply.refuse(refusal, close=True, before_end=inlet.discard)
    else:
        await reply.refuse(refusal)


def _require(method: str, wanted: str, path: str) -> None:
    if method != wanted:
        raise method_wrong(method, path, allow=wanted)


def _card(name: str, route: Route) -> ModelCard:
    return ModelCard(id=name, created=route.created, kind=route.kind)
