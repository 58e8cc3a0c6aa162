"""What clients send to the addresses that encode: documents checked where the bytes come in.

`/v1/embeddings` and `/v1/moderations` are OpenAI's, `/v1/rerank` has the form of Jina and Cohere (as in llama-server),
`/v1/classify` vLLM's. Beyond all of them: `truncate` cuts long texts instead of refusing them.
Sources: OpenAI API reference (embeddings, moderations); Jina and Cohere rerank references; vLLM classification API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from appliance.engine.frames import Kind
from appliance.gateway.fields import Name, Token
from appliance.gateway.fields import decode as decode_body
from appliance.gateway.refusals import bad_request, unsupported

MAX_TEXTS: Final = 2048

Text = str | tuple[int, ...]
Texts = str | list[str | Token | list[Token]]
"""a text, texts, token ids, or lists of token ids"""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/embeddings."""

    model: Name
    input: Texts
    encoding_format: str | None = None
    dimensions: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    truncate: bool = False


class RerankDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document with its text."""

    text: str


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/rerank."""

    model: Name
    query: str
    documents: Annotated[list[str | RerankDocument], Meta(min_length=1, max_length=MAX_TEXTS)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False
    truncate: bool = False


class ClassifyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/classify."""

    model: Name
    input: Texts
    truncate: bool = False


class ModerationPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of one text."""

    type: str
    text: str | None = None


class ModerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/moderations. Without a model, the only deployment that moderates."""

    model: Name | None = None
    input: str | list[str | ModerationPart]
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


_embedding_decoder: Final = msgspec.json.Decoder(EmbeddingRequest)
_rerank_decoder: Final = msgspec.json.Decoder(RerankRequest)
_classify_decoder: Final = msgspec.json.Decoder(ClassifyRequest)
_moderation_decoder: Final = msgspec.json.Decoder(ModerationRequest)


def _texts(given: str | Sequence[str | int | list[int]]) -> tuple[Text, ...]:
    """A text, texts, token ids, or lists of token ids; all of one sort, as OpenAI has it."""
    entries = [given] if isinstance(given, str) else given
    if not entries:
        raise bad_request("input must be a text, token ids, or a list of them that is not empty.", param="input")
    if all(isinstance(token, int) for token in entries):
        return (tuple(token for token in entries if isinstance(token, int)),)
    if len(entries) > MAX_TEXTS:
        raise bad_request(f"input has {len(entries)} entries; at most {MAX_TEXTS} are taken at once.", param="input")
    texts: list[Text] = []
    for index, entry in enumerate(entries):
        if isinstance(entry, int) or type(entry) is not type(entries[0]):
            raise bad_request(f"input[{index}] is neither a text nor token ids, as the others are.", param="input")
        if not entry:
            raise bad_request(f"input[{index}] is empty.", param="input")
        texts.append(entry if isinstance(entry, str) else tuple(entry))
    return tuple(texts)


def _part(part: ModerationPart, index: int) -> str:
    if part.type != "text":
        raise unsupported(f"input[{index}].type", f"content of type {part.type!r}")
    if part.text is None:
        raise bad_request(f"input[{index}].text is missing.", param=f"input[{index}].text")
    return part.text
