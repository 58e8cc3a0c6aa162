"""Replaces personal data in the texts of a row by marks, and counts what it replaced. Labels are left as they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

from appliance.datasets.personal_data import redact

_TEXTS = ("text", "prompt", "completion", "chosen", "rejected")


def redacted_content(content: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
    """Return the row with marks for findings, and how many of each kind. Not for tagged text: places would move."""
    counts: Counter[str] = Counter()

    def clean(text: str) -> str:
        marked, found = redact(text)
        counts.update({kind.value: count for kind, count in found.items()})
        return marked

    changed = {part: clean(value) if part in _TEXTS else value for part, value in content.items()}
    if "messages" in content:
        changed["messages"] = [message | {"content": clean(message["content"])} for message in content["messages"]]
    return changed, counts
