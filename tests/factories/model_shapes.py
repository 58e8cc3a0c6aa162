"""What the headers of models of a known size say."""

from __future__ import annotations

from typing import Any

SEVEN_BILLION: dict[str, Any] = {
    "parameters": 7_000_000_000,
    "layers": 32,
    "hidden": 4096,
    "heads": 32,
    "kv_heads": 8,
    "key_width": 256,
    "feed_forward": 14336,
    "vocabulary": 32000,
    "context_length": 32768,
    "quantisation": "Q8_0",
}
