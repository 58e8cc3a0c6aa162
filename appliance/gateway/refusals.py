"""What a client is told when it gets no answer: OpenAI's error document and the HTTP status that goes with it.

The closed list of refusals lives here, so that status, `type` and `code` stay together and stable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from appliance.engine.frames import Failed
from appliance.kernel.errors import IntramurosError

_SOON: Final = 1
_LATEST: Final = 60
"""Seconds: what a client is told to wait at least, also where nothing is known, and at most."""
_FROM_ENGINE: Final = {
    "engine.context_length": ("context_length_exceeded", None),
    "engine.grammar": ("invalid_schema", None),
    "engine.grammar_size": ("schema_too_large", None),
    "engine.shape": ("unsupported", "response_format"),
    "engine.reasoning": ("unsupported", "reasoning_effort"),
    "engine.no_fill": ("unsupported", "suffix"),
    "engine.tokens": ("invalid_request_error", "prompt"),
    "engine.echo": ("invalid_request_error", "echo"),
    "engine.bias": ("invalid_request_error", "logit_bias"),
}
"""what a client is told, and of which field, for an engine's code"""
_DEFECTS: Final = frozenset({"engine.request_defect", "engine.grammar_defect", "engine.tokenise"})
"""what is the engine's own fault, and of one request only"""


class Refusal(IntramurosError):
    """A request that is answered by an error document. `status` is the HTTP status before the first byte."""

    def __init__(
        self,
        status: int,
        kind: str,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        allow: str = "",
    ) -> None:
        super().__init__(code, message)
        self.status = status
        self.kind = kind
        self.param = param
        self.retry_after = 0 if retry_after is None else min(max(_SOON, math.ceil(retry_after)), _LATEST)
        """seconds after which the same request may succeed; 0 where it will not"""
        self.allow = allow
        """the method that would have been right"""

    def document(self) -> bytes:
        """Return `{"error": {…}}` as JSON."""
        body = ErrorBody(message=self.message, type=self.kind, param=self.param, code=self.code)
        return msgspec.json.encode(ErrorDocument(error=body))


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong; `code` is stable, `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Every answer that is not what was asked for."""

    error: ErrorBody


def bad_request(message: str, *, param: str | None = None, code: str = "invalid_request_error") -> Refusal:
    """400: the request itself is wrong."""
    return Refusal(400, "invalid_request_error", code, message, param=param)


def unsupported(field: str, what: str) -> Refusal:
    """400: a field of the API that this appliance does not serve; better said than silently ignored."""
    return bad_request(f"{field}: {what} is not supported by this appliance.", param=field, code="unsupported")


def unauthenticated(code: str, message: str) -> Refusal:
    """401: no key, a wrong one, or one that ended."""
    return Refusal(401, "authentication_error", code, message)


def model_forbidden(model: str) -> Refusal:
    """403: the key is good, but not for this model."""
    return Refusal(
        403, "permission_error", "model_not_allowed", f"This API key may not use the model {model!r}.", param="model"
    )


def model_unknown(model: str) -> Refusal:
    """404: nothing is deployed under this name."""
    return Refusal(
        404, "invalid_request_error", "model_not_found", f"The model {model!r} does not exist here.", param="model"
    )


_ENDPOINTS: Final = {
    "generate": "/v1/chat/completions or /v1/completions",
    "embed": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "classify": "/v1/classify",
}


def wrong_endpoint(model: str, kind: str, path: str) -> Refusal:
    """400: the model exists and does something else."""
    return bad_request(
        f"The model {model!r} is of kind {kind}; {path} cannot use it. Send the request to {_ENDPOINTS[kind]}.",
        param="model",
        code="wrong_endpoint",
    )


def route_unknown(path: str) -> Refusal:
    """404: no such path."""
    return Refusal(404, "invalid_request_error", "unknown_url", f"There is nothing at {path}.")


def method_wrong(method: str, path: str, *, allow: str) -> Refusal:
    """405: the path exists, the method does not."""
    message = f"{path} does not answer to {method}."
    return Refusal(405, "invalid_request_error", "method_not_allowed", message, allow=allow)


def body_slow() -> Refusal:
    """408: the body did not arrive in time."""
    return Refusal(408, "invalid_request_error", "request_timeout", "The request body did not arrive in time.")


def body_too_large(limit: int) -> Refusal:
    """413: more than the appliance reads."""
    return Refusal(413, "invalid_request_error", "body_too_large", f"The request body exceeds {limit} bytes.")


def too_many(message: str, *, retry_after: float) -> Refusal:
    """429: come back when there may be room."""
    return Refusal(429, "rate_limit_error", "rate_limit_exceeded", message, retry_after=retry_after)


def engine_unavailable(model: str) -> Refusal:
    """503: the engine is starting, draining or has died; the same request may succeed at once elsewhere or later."""
    return Refusal(
        503,
        "server_error",
        "engine_unavailable",
        f"The model {model!r} cannot answer just now; try again.",
        retry_after=_SOON,
    )


def model_not_loaded(model: str, obstacle: str, *, retry_after: float) -> Refusal:
    """503: the model is deployed, but not in memory, and there was no room for it in time."""
    why = f": {obstacle}" if obstacle else " yet"
    return Refusal(
        503,
        "server_error",
        "model_not_loaded",
        f"The model {model!r} is not in memory{why}; try again.",
        retry_after=retry_after,
    )


def grammar_broken() -> Refusal:
    """400: an answer could not be held to its shape with what one answer may cost."""
    message = "The answer cannot be held to this schema within the appliance's bounds; make the schema simpler."
    return bad_request(message, code="schema_too_complex")


def defect(part: str = "gateway") -> Refusal:
    """500: a defect of ours; the log of that part has the details."""
    return Refusal(500, "server_error", "internal_error", f"The {part} failed while handling this request.")


def from_engine(failed: Failed, model: str, paths: Mapping[str, str] = MappingProxyType({})) -> Refusal:
    """Translate what an engine said about one request; `paths` are those of fields that have another name there."""
    if failed.code == "engine.busy":
        return too_many(failed.message, retry_after=failed.retry_after)
    if failed.retryable:
        return engine_unavailable(model)
    if failed.code in _DEFECTS:
        return defect("engine")
    code, param = _FROM_ENGINE.get(failed.code, ("invalid_request_error", None))
    return bad_request(failed.message, code=code, param=param and paths.get(param, param))
