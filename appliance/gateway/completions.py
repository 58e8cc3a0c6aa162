"""POST /v1/completions: the request document and the plan that is made of it.

Source: OpenAI API reference, completions.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance.gateway.fields import MAX_CHOICES, Common, Token, decode, sampling, wants_usage
from appliance.gateway.plan import Plan, Query
from appliance.gateway.refusals import bad_request, unsupported

Tokens = Annotated[list[Token], Meta(min_length=1)]
Prompts = Annotated[list[str | Token | Tokens], Meta(min_length=1)]


class CompletionRequest(Common, frozen=True, kw_only=True):
    """Body of POST /v1/completions. `prompt`: a text, token numbers, or several of either."""

    prompt: str | Prompts
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None


_decoder: Final = msgspec.json.Decoder(CompletionRequest)


def parse_completion(body: bytes) -> Plan:
    """Understand a text completion request. Raises Refusal (400)."""
    request = decode(body, _decoder)
    choices = request.n or 1
    if request.best_of is not None and request.best_of != choices:
        raise unsupported("best_of", "a best_of other than n")
    queries = _queries(request)
    if len(queries) * choices > MAX_CHOICES:
        raise bad_request(f"prompts times n is more than {MAX_CHOICES}.", param="n")
    return Plan(
        model=request.model,
        queries=queries,
        choices=choices,
        sampling=sampling(request, limit=request.max_tokens, logprobs=request.logprobs, echo=bool(request.echo)),
        stream=bool(request.stream),
        include_usage=wants_usage(request),
    )


def _queries(request: CompletionRequest) -> tuple[Query, ...]:
    prompt = request.prompt
    suffix = request.suffix or None
    if suffix is not None and request.echo:
        raise bad_request("suffix and echo exclude each other.", param="echo")
    if isinstance(prompt, str):
        return (Query(text=prompt, suffix=suffix),)
    if all(isinstance(entry, int) for entry in prompt):
        prompts: list[str | int | list[int]] = [[entry for entry in prompt if isinstance(entry, int)]]
    else:
        prompts = prompt
    queries = []
    for entry in prompts:
        if isinstance(entry, str):
            queries.append(Query(text=entry, suffix=suffix))
        elif isinstance(entry, list) and suffix is None:
            queries.append(Query(tokens=tuple(entry)))
        elif isinstance(entry, list):
            raise bad_request("suffix needs a prompt of text.", param="suffix")
        else:
            raise bad_request("prompt mixes single token numbers with other prompts.", param="prompt")
    return tuple(queries)
