"""The refusal of a tokenizer that llama.cpp has no proven equal of."""

from __future__ import annotations

from appliance.kernel.errors import BadInput


def refused(found: str) -> BadInput:
    """Return the error that says what was found."""
    return BadInput(
        "conversion.tokenizer",
        f"tokenizer.json cannot be converted: {found}.",
        hint="Byte-level BPE as in GPT-2, Llama 3, Qwen 2 and 3 or SmolLM can be served, "
        "and SentencePiece's BPE as in Llama 2 and Mistral.",
    )
