"""What clients send to the addresses that encode: documents checked where the bytes come in.

`/v1/embeddings` and `/v1/moderations` are OpenAI's, `/v1/rerank` has the form of Jina and Cohere (as in llama-server),
`/v1/classify` vLLM's. Beyond all of them: `truncate` cuts long texts instead of refusing them.
Sources: OpenAI API reference (embeddings, moderations); Jina and Cohere rerank references; vLLM classification API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from appliance.engine.frames import Kind
from appliance.gateway.fields import decode as decode_body
from appliance.gateway.refusals import Refusal, bad_request, unsupported

MAX_TEXTS: Final = 2048
MAX_TOKEN: Final = 1 << 31

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Text = str | tuple[int, ...]


class _EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: Name
    input: Any
    encoding_format: str | None = None
    dimensions: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    truncate: bool = False


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class _RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: Name
    query: str
    documents: Annotated[list[str | _Document], Meta(min_length=1, max_length=MAX_TEXTS)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False
    truncate: bool = False


class _ClassifyRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: Name
    input: Any
    truncate: bool = False


class _ModerationPart(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    text: str | None = None


class _ModerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: Name | None = None
    input: str | list[str | _ModerationPart]
    truncate: bool = False


class EncodingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was understood. `form` is the shape of the answer; `model` empty when none was named."""

    form: Literal["embeddings", "rerank", "classify", "moderations"]
    kind: Kind
    model: str
    texts: tuple[Text, ...]
    truncate: bool
    query: str | None = None
    base64: bool = False
    dimensions: int | None = None
    top_n: int | None = None
    return_documents: bool = False


def parse_embeddings(body: bytes) -> EncodingPlan:
    """Understand an embeddings request. Raises Refusal (400)."""
    request = decode_body(body, _embedding_decoder)
    if request.encoding_format not in (None, "float", "base64"):
        raise unsupported("encoding_format", f"the format {request.encoding_format!r}")
    return EncodingPlan(
        form="embeddings",
        kind="embed",
        model=request.model,
        texts=_texts(request.input),
        truncate=request.truncate,
        base64=request.encoding_format == "base64",
        dimensions=request.dimensions,
    )


def parse_rerank(body: bytes) -> EncodingPlan:
    """Understand a rerank request. Raises Refusal (400)."""
    request = decode_body(body, _rerank_decoder)
    return EncodingPlan(
        form="rerank",
        kind="rerank",
        model=request.model,
        texts=tuple(document if isinstance(document, str) else document.text for document in request.documents),
        truncate=request.truncate,
        query=request.query,
        top_n=request.top_n,
        return_documents=request.return_documents,
    )


def parse_classify(body: bytes) -> EncodingPlan:
    """Understand a classification request. Raises Refusal (400)."""
    request = decode_body(body, _classify_decoder)
    texts = _texts(request.input)
    return EncodingPlan(form="classify", kind="classify", model=request.model, texts=texts, truncate=request.truncate)


def parse_moderations(body: bytes) -> EncodingPlan:
    """Understand a moderation request. Parts of one input are one text. Raises Refusal (400)."""
    request = decode_body(body, _moderation_decoder)
    given = [request.input] if isinstance(request.input, str) else request.input
    texts = [entry for entry in given if isinstance(entry, str)]
    parts = [_part(entry, index) for index, entry in enumerate(given) if not isinstance(entry, str)]
    if texts and parts:
        raise bad_request("input mixes texts and parts.", param="input")
    return EncodingPlan(
        form="moderations",
        kind="classify",
        model=request.model or "",
        texts=_texts(texts or ["\n".join(parts)] if given else []),
        truncate=request.truncate,
    )


ENCODINGS: Final[dict[str, Callable[[bytes], EncodingPlan]]] = {
    "/v1/embeddings": parse_embeddings,
    "/v1/rerank": parse_rerank,
    "/v1/classify": parse_classify,
    "/v1/moderations": parse_moderations,
}
"""The addresses, each with what understands its body."""

_embedding_decoder: Final = msgspec.json.Decoder(_EmbeddingRequest)
_rerank_decoder: Final = msgspec.json.Decoder(_RerankRequest)
_classify_decoder: Final = msgspec.json.Decoder(_ClassifyRequest)
_moderation_decoder: Final = msgspec.json.Decoder(_ModerationRequest)


def _texts(given: Any) -> tuple[Text, ...]:
    """A text, texts, token ids, or lists of token ids; all of one sort, as OpenAI has it."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise bad_request("input must be a text, token ids, or a list of them that is not empty.", param="input")
    if _are_tokens(given):
        given = [given]
    if len(given) > MAX_TEXTS:
        raise bad_request(f"input has {len(given)} entries; at most {MAX_TEXTS} are taken at once.", param="input")
    if all(isinstance(text, str) for text in given):
        for index, text in enumerate(given):
            if not text:
                raise _empty(index)
        return tuple(given)
    texts: list[Text] = []
    for index, tokens in enumerate(given):
        if not isinstance(tokens, list) or not _are_tokens(tokens):
            raise bad_request(f"input[{index}] is neither a text nor token ids, as the others are.", param="input")
        if not tokens:
            raise _empty(index)
        texts.append(tuple(tokens))
    return tuple(texts)


def _are_tokens(given: list[Any]) -> bool:
    return all(isinstance(token, int) and not isinstance(token, bool) and 0 <= token < MAX_TOKEN for token in given)


def _empty(index: int) -> Refusal:
    return bad_request(f"input[{index}] is empty.", param="input")


def _part(part: _ModerationPart, index: int) -> str:
    if part.type != "text":
        raise unsupported(f"input[{index}].type", f"content of type {part.type!r}")
    if part.text is None:
        raise bad_request(f"input[{index}].text is missing.", param=f"input[{index}].text")
    return part.text
