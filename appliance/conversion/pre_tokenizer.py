"""Which of llama.cpp's pre-tokenizers does what a tokenizer.json describes.

llama.cpp's own converter guesses it from a hash of token ids and so refuses every retrained tokenizer. The pipeline
is written down in tokenizer.json: it is read here, and anything not known exactly is refused with what was found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.kernel.errors import BadInput, IntegrityFailure

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_IGNORE_MERGES = {"gpt-2": False, "llama-bpe": True, "qwen2": False, "smollm": False}
"""Whether llama.cpp takes a word that is a token whole, without merging; it is tied to the name there."""


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """The value of `tokenizer.ggml.pre`, and whether texts are brought into the form NFC before (`normaliser`)."""

    name: str
    composes: bool = False


def pre_tokenizer_of(tokenizer_json: Path) -> PreTokenizer:
    """Return what does the same as a tokenizer.json.

    Raises BadInput ("conversion.tokenizer") for a pipeline that llama.cpp has no proven equal of, and
    IntegrityFailure when the file is not JSON.
    """
    try:
        document = json.loads(tokenizer_json.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityFailure(
            "conversion.tokenizer_unreadable", f"{tokenizer_json.name} is not JSON: {error}."
        ) from error
    if not isinstance(document, dict):
        raise IntegrityFailure("conversion.tokenizer_unreadable", f"{tokenizer_json.name} is not a JSON object.")
    return derive_pre(document)


def derive_pre(tokenizer: dict[str, Any]) -> PreTokenizer:
    """Return the pre-tokenizer of a decoded tokenizer.json. Raises BadInput."""
    _require_plain_bpe(tokenizer)
    found = tokenizer.get("pre_tokenizer")
    name = _name_of(found)
    if name is None:
        raise _refused(f"the pre-tokenizer is {json.dumps(found)[:300]}")
    ignore_merges = bool(tokenizer["model"].get("ignore_merges", False))
    if ignore_merges != _IGNORE_MERGES[name]:
        raise _refused(f"ignore_merges is {ignore_merges} with a pre-tokenizer of the kind {name}")
    return PreTokenizer(name, composes=bool(tokenizer.get("normalizer")))


def _require_plain_bpe(tokenizer: dict[str, Any]) -> None:
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise _refused(f"the model is {model.get('type') if isinstance(model, dict) else model!r}, not BPE")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "dropout", "unk_token"):
        if model.get(key):
            raise _refused(f"the BPE model sets {key} to {model[key]!r}")
    if tokenizer.get("normalizer") not in (None, {"type": "NFC"}):
        raise _refused(f"the normalizer is {json.dumps(tokenizer['normalizer'])[:300]}")


def _name_of(pre_tokenizer: Any) -> str | None:
    match pre_tokenizer:
        case {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}:
            return "gpt-2"
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
            ],
        }:
            return {_LLAMA3: "llama-bpe", _QWEN2: "qwen2"}.get(pattern)
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False},
            ],
        }:
            return "smollm"
    return None


def _refused(found: str) -> BadInput:
    return BadInput(
        "conversion.tokenizer",
        f"tokenizer.json cannot be converted: {found}.",
        hint="Byte-level BPE as in GPT-2, Llama 3, Qwen 2 and 3 or SmolLM can be served.",
    )
