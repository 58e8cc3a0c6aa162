"""Which architectures encode texts, and what differs between them. Knows no torch, so that a service can refuse early.

`offset` is how many positions a family keeps for itself: RoBERTa's begin behind the padding token's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.kernel.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFamily:
    """One `model_type` of Hugging Face."""

    offset: int = 0


ENCODERS: Final[Mapping[str, EncoderFamily]] = {
    "bert": EncoderFamily(),
    "roberta": EncoderFamily(offset=2),
    "xlm-roberta": EncoderFamily(offset=2),
    "camembert": EncoderFamily(offset=2),
    "mpnet": EncoderFamily(offset=2),
    "distilbert": EncoderFamily(),
    "electra": EncoderFamily(),
    "modernbert": EncoderFamily(),
}


def require_encoder(model_type: str) -> EncoderFamily:
    """Return the family. Raises BadInput `model.no_encoder` for what generates or is not known."""
    family = ENCODERS.get(model_type)
    if family is None:
        raise BadInput(
            "model.no_encoder",
            f"A model of the architecture {model_type[:40]!r} is no text encoder that can be trained here.",
            hint=f"Use one of {', '.join(sorted(ENCODERS))}, such as all-MiniLM-L6-v2.",
        )
    return family


def family_of_folder(folder: Path) -> str:
    """Return the architecture that a model's folder names; empty where it names none."""
    try:
        named = json.loads((folder / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError):
        return ""
    return named if isinstance(named, str) else ""


def describe(config: Mapping[str, Any], *, parameters: int, dtype: str) -> dict[str, Any]:
    """Return what the registry and the memory plan of serving want to know, from a folder's config.json."""

    def number(*names: str) -> int:
        return next((int(config[name]) for name in names if isinstance(config.get(name), int)), 0)

    heads = number("num_attention_heads", "n_heads")
    return {
        "architecture": str(config.get("model_type", "")),
        "parameters": parameters,
        "context_length": number("max_position_embeddings"),
        "vocabulary": number("vocab_size"),
        "layers": number("num_hidden_layers", "n_layers"),
        "hidden": number("hidden_size", "dim"),
        "heads": heads,
        "kv_heads": number("num_key_value_heads") or heads,
        "feed_forward": number("intermediate_size", "hidden_dim"),
        "quantisation": dtype,
    }
