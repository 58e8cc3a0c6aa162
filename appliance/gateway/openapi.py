"""GET /openapi.json: the OpenAPI 3.1 description of the public side, made from what requests are read with.

Made once, on first use: most gateways are never asked.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec

from appliance.gateway.endpoints import ENCODINGS, GENERATIONS, TOKENS, Described, ModelCard, ModelList
from appliance.gateway.refusals import ErrorDocument

_REFERENCE: Final = "#/components/schemas/{name}"
_ERRORS: Final = {
    "400": "The request is wrong, or asks for what is not served.",
    "401": "No API key, or one that does not count.",
    "403": "The key may not use this model.",
    "404": "No such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "429": "Too many requests at once; see Retry-After.",
    "503": "The model cannot answer just now; see Retry-After.",
}
_READ_ERRORS: Final = ("401", "403", "404")


@cache
def document() -> bytes:
    """The description as JSON."""
    described = {path: endpoint.described for path, endpoint in GENERATIONS.items()}
    described |= {path: endpoint.described for path, endpoint in TOKENS.items()}
    described |= {path: endpoint.described for path, endpoint in ENCODINGS.items()}
    types = [kind for entry in described.values() for kind in (entry.request, entry.answer)]
    schemas, components = msgspec.json.schema_components(
        [*types, ModelCard, ModelList, ErrorDocument], ref_template=_REFERENCE
    )
    references = dict(zip([*types, ModelCard, ModelList, ErrorDocument], schemas, strict=True))
    error = references[ErrorDocument]
    paths: dict[str, Any] = {
        path: {"post": _post(entry, references, error, streams=path in GENERATIONS)}
        for path, entry in described.items()
    }
    paths["/v1/models"] = {
        "get": _get("List the models that this key may use.", references[ModelList], error, ("401",))
    }
    paths["/v1/models/{model}"] = {
        "get": _get("Describe one model.", references[ModelCard], error, _READ_ERRORS)
        | {"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]}
    }
    paths["/healthz"] = {
        "get": {
            "summary": "Tell that the gateway runs.",
            "security": [],
            "responses": {"200": _json("It runs.", {"type": "object"})},
        }
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Intramuros",
                "version": "1",
                "description": "OpenAI's API for the models of this appliance. Fields not described here are ignored.",
            },
            "security": [{"key": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


_EVENT: Final[dict[str, Any]] = {
    "description": "Each event of a stream. Its data are a JSON document; some streams end with the word [DONE].",
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}


def _post(entry: Described, references: dict[Any, Any], error: Any, *, streams: bool) -> dict[str, Any]:
    answer = _json("The answer.", references[entry.answer])
    if streams:
        answer["content"]["text/event-stream"] = {"schema": _EVENT}
    return {
        "summary": entry.summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": references[entry.request]}}},
        "responses": {"200": answer} | {status: _json(text, error) for status, text in _ERRORS.items()},
    }


def _get(summary: str, answer: Any, error: Any, statuses: tuple[str, ...]) -> dict[str, Any]:
    errors = {status: _json(_ERRORS[status], error) for status in statuses}
    return {"summary": summary, "responses": {"200": _json("The answer.", answer)} | errors}


def _json(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
