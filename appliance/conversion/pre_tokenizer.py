"""Which of llama.cpp's pre-tokenizers does what a tokenizer.json describes.

llama.cpp's own converter guesses it from a hash of token ids and so refuses every retrained tokenizer. The pipeline
is written down in tokenizer.json: it is read here, and anything not known exactly is refused with what was found.
Tokenizers of SentencePiece's kind are read as transformers loads them, which puts a pipeline of its own in place of the
file's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.conversion.refusal import refused
from appliance.conversion.sentence_pieces import scores_of
from appliance.kernel.errors import IntegrityFailure
from appliance.weights import normaliser

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_IGNORE_MERGES = {"gpt-2": False, "llama-bpe": True, "qwen2": False, "smollm": False}
"""Whether llama.cpp takes a word that is a token whole, without merging; it is tied to the name there."""


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """The value of `tokenizer.ggml.pre`, and what is done to a text before (`normaliser`).

    `composes`: texts are brought into the form NFC. `prefix`: where a text is given a space in front, one of
    `normaliser.PREFIXES`. `scores` are those of SentencePiece's pieces by token id; byte-level BPE has none.
    """

    name: str
    composes: bool = False
    prefix: str = normaliser.NEVER
    scores: tuple[float, ...] = ()


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
    return derive_pre(_as_loaded(tokenizer_json.parent) if _has_pieces(document) else document)


def derive_pre(tokenizer: dict[str, Any]) -> PreTokenizer:
    """Return the pre-tokenizer of a decoded tokenizer.json. Raises BadInput."""
    _require_plain_bpe(tokenizer)
    if _has_pieces(tokenizer):
        return _of_pieces(tokenizer)
    found = tokenizer.get("pre_tokenizer")
    name = _name_of(found)
    if name is None:
        raise refused(f"the pre-tokenizer is {json.dumps(found)[:300]}")
    ignore_merges = bool(tokenizer["model"].get("ignore_merges", False))
    if ignore_merges != _IGNORE_MERGES[name]:
        raise refused(f"ignore_merges is {ignore_merges} with a pre-tokenizer of the kind {name}")
    return PreTokenizer(name, composes=bool(tokenizer.get("normalizer")))


def _require_plain_bpe(tokenizer: dict[str, Any]) -> None:
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise refused(f"the model is {model.get('type') if isinstance(model, dict) else model!r}, not BPE")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "unk_token"):
        if model.get(key) and not (key == "unk_token" and _has_pieces(tokenizer)):  # bytes stand for what is unknown
            raise refused(f"the BPE model sets {key} to {model[key]!r}")
    if tokenizer.get("normalizer") not in (None, {"type": "NFC"}):
        raise refused(f"the normalizer is {json.dumps(tokenizer['normalizer'])[:300]}")


def _has_pieces(tokenizer: dict[str, Any]) -> bool:
    """Whether this is SentencePiece's BPE, whose pieces are characters, and bytes for those that it has not."""
    model = tokenizer.get("model")
    return isinstance(model, dict) and model.get("byte_fallback") is True


def _as_loaded(folder: Path) -> dict[str, Any]:
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        document: dict[str, Any] = json.loads(loaded.backend_tokenizer.to_str())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityFailure(
            "conversion.tokenizer_unreadable", f"The tokenizer cannot be loaded: {type(error).__name__} {error}."
        ) from error
    return document


def _of_pieces(tokenizer: dict[str, Any]) -> PreTokenizer:
    """Return how SentencePiece's BPE is written. Raises BadInput for what llama.cpp would do differently."""
    model, found = tokenizer["model"], tokenizer.get("pre_tokenizer")
    match found:
        case {"type": "Metaspace", "replacement": "▁", "split": False, "prepend_scheme": str(prefix)}:
            pass
        case _:
            raise refused(f"the pre-tokenizer is {json.dumps(found)[:300]}")
    if prefix not in normaliser.PREFIXES:
        raise refused(f"a space is put in front of {prefix!r}")
    if tokenizer.get("normalizer") is not None:
        raise refused(f"the normalizer of its pieces is {json.dumps(tokenizer['normalizer'])[:300]}")
    if model.get("ignore_merges"):
        raise refused("its pieces are put together with ignore_merges")
    if missing := [byte for byte in range(256) if f"<0x{byte:02X}>" not in model["vocab"]]:
        raise refused(f"it has no piece for the byte {missing[0]}")
    scores = scores_of(model["vocab"], [(left, right) for left, right in model["merges"]])
    return PreTokenizer("default", prefix=prefix, scores=scores)


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
