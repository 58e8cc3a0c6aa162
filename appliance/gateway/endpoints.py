"""The addresses of the public side, and what each takes and gives; the dispatcher and /openapi.json read this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.engine.frames import Detokenise, Tokenise
from appliance.gateway.answers import Form, Identity
from appliance.gateway.chat import ChatRequest, parse_chat
from appliance.gateway.chat_answers import ChatAnswer, ChatForm
from appliance.gateway.completions import CompletionRequest, parse_completion
from appliance.gateway.encoding_answers import ClassifyAnswer, EmbeddingsAnswer, ModerationAnswer, RerankAnswer
from appliance.gateway.encoding_types import (
    ClassifyRequest,
    EmbeddingRequest,
    EncodingPlan,
    ModerationRequest,
    RerankRequest,
    parse_classify,
    parse_embeddings,
    parse_moderations,
    parse_rerank,
)
from appliance.gateway.plan import Plan
from appliance.gateway.response_answers import Response, ResponseForm
from appliance.gateway.responses import ResponsesRequest, parse_response
from appliance.gateway.text_answers import TextAnswer, TextForm
from appliance.gateway.token_counts import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
    parse_detokenize,
    parse_tokenize,
)


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of /v1/models."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "intramuros"
    kind: str
    """beyond OpenAI's: generate | embed | rerank | classify"""


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/models."""

    object: str = "list"
    data: list[ModelCard]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What /openapi.json says of an endpoint."""

    summary: str
    request: type[msgspec.Struct]
    answer: type[msgspec.Struct]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationEndpoint:
    """An endpoint that generates. `prefix` begins the ids of its answers."""

    described: Described
    prefix: str
    parse: Callable[[bytes], Plan]
    form: Callable[[Identity, Plan], Form]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoint:
    """An endpoint that only asks an engine's vocabulary."""

    described: Described
    parse: Callable[[bytes], tuple[str, Tokenise | Detokenise]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingEndpoint:
    """An endpoint that makes rows of numbers of texts."""

    described: Described
    parse: Callable[[bytes], EncodingPlan]


GENERATIONS: Final[dict[str, GenerationEndpoint]] = {
    "/v1/chat/completions": GenerationEndpoint(
        described=Described(
            summary="Answer a conversation, whole or as a stream of chunks.", request=ChatRequest, answer=ChatAnswer
        ),
        prefix="chatcmpl-",
        parse=parse_chat,
        form=lambda identity, plan: ChatForm(
            identity, counted=plan.include_usage, measured=plan.sampling.logprobs is not None
        ),
    ),
    "/v1/completions": GenerationEndpoint(
        described=Described(
            summary="Complete a text, or fill in between a prompt and a suffix.",
            request=CompletionRequest,
            answer=TextAnswer,
        ),
        prefix="cmpl-",
        parse=parse_completion,
        form=lambda identity, plan: TextForm(
            identity, counted=plan.include_usage, measured=plan.sampling.logprobs is not None
        ),
    ),
    "/v1/responses": GenerationEndpoint(
        described=Described(
            summary="Answer input items, whole or as a stream of events; nothing is kept.",
            request=ResponsesRequest,
            answer=Response,
        ),
        prefix="resp_",
        parse=parse_response,
        form=ResponseForm,
    ),
}

TOKENS: Final[dict[str, TokenEndpoint]] = {
    "/tokenize": TokenEndpoint(
        described=Described(
            summary="Tell the tokens of a text or of messages.", request=TokenizeRequest, answer=TokenizeAnswer
        ),
        parse=parse_tokenize,
    ),
    "/detokenize": TokenEndpoint(
        described=Described(summary="Tell the text of tokens.", request=DetokenizeRequest, answer=DetokenizeAnswer),
        parse=parse_detokenize,
    ),
}

ENCODINGS: Final[dict[str, EncodingEndpoint]] = {
    "/v1/embeddings": EncodingEndpoint(
        described=Described(summary="Make a vector of each text.", request=EmbeddingRequest, answer=EmbeddingsAnswer),
        parse=parse_embeddings,
    ),
    "/v1/rerank": EncodingEndpoint(
        described=Described(
            summary="Order documents by their relevance to a query.", request=RerankRequest, answer=RerankAnswer
        ),
        parse=parse_rerank,
    ),
    "/v1/classify": EncodingEndpoint(
        described=Described(summary="Tell the label of each text.", request=ClassifyRequest, answer=ClassifyAnswer),
        parse=parse_classify,
    ),
    "/v1/moderations": EncodingEndpoint(
        described=Described(
            summary="Tell which categories a text falls into.", request=ModerationRequest, answer=ModerationAnswer
        ),
        parse=parse_moderations,
    ),
}
