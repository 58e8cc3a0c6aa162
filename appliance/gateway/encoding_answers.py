"""What clients get from the addresses that encode: one document for each, whole.

Sources: OpenAI API reference (embeddings, moderations); Jina and Cohere rerank references; vLLM classification API.
"""

from __future__ import annotations

import msgspec


class EncodingUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is generated, so both are what was read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """One vector: numbers, or base64 of little-endian 32-bit floats."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/embeddings."""

    object: str = "list"
    data: list[Embedding]
    model: str
    usage: EncodingUsage


class RankedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it came."""

    text: str


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A document's place: `index` is its number in the request."""

    index: int
    relevance_score: float
    document: RankedDocument | msgspec.UnsetType = msgspec.UNSET


class RerankAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/rerank, the most relevant document first."""

    id: str
    object: str = "list"
    model: str
    results: list[Ranked]
    usage: EncodingUsage


class Classified(msgspec.Struct, frozen=True, kw_only=True):
    """The most likely label of one text, and the probability of each in the order of `labels`."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class ClassifyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/classify."""

    id: str
    object: str = "list"
    created: int
    model: str
    labels: list[str]
    data: list[Classified]
    usage: EncodingUsage


class Moderated(msgspec.Struct, frozen=True, kw_only=True):
    """One text: its score in each category, and whether one of them is reached."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]


class ModerationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """/v1/moderations."""

    id: str
    model: str
    results: list[Moderated]


EncodingAnswer = EmbeddingsAnswer | RerankAnswer | ClassifyAnswer | ModerationAnswer
