"""What a model was made for, judged by what its files say: the kind of deployment that serves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

KINDS: Final = ("generate", "embed", "rerank", "classify")
"""kinds of deployment"""

_ENCODERS: Final = frozenset(
    {
        "bert",
        "roberta",
        "xlm-roberta",
        "distilbert",
        "camembert",
        "mpnet",
        "albert",
        "electra",
        "deberta",
        "deberta-v2",
        "modernbert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "jina-bert-v2",
        "jina-bert-v3",
        "neo-bert",
        "eurobert",
        "gemma-embedding",
        "t5encoder",
    }
)
"""Architectures that look both ways and generate nothing: Hugging Face's and llama.cpp's names."""


def kind_of(description: Mapping[str, Any]) -> str:
    """Return one of `KINDS`, or `tag` (marks spans, which nothing serves), for a model as `ModelDescription` has it."""
    head, pooling = str(description.get("head", "")), str(description.get("pooling", ""))
    if head.endswith("ForSequenceClassification"):
        return "rerank" if len(description.get("labels", ())) == 1 else "classify"
    if head.endswith("ForTokenClassification"):
        return "tag"
    if pooling == "rank":
        return "rerank"
    if pooling in ("mean", "cls", "last") or str(description.get("architecture", "")) in _ENCODERS:
        return "embed"
    return "generate"
