"""Rows that were set aside: each in rejected.jsonl by position, code and reason, and counted. Never what they say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import msgspec

from appliance.datasets.rows import Rejected
from appliance.kernel.canonical import canonical_json

REJECTED: Final = "rejected.jsonl"
_SHOWN = 20


@dataclass(slots=True, kw_only=True)
class Aside:
    """Writes what is set aside and keeps the first of them to be shown."""

    stream: BinaryIO
    first: list[Rejected] = field(default_factory=list)
    examples: dict[str, Rejected] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, rejected: Rejected) -> None:
        """Set a row aside."""
        self.counts[rejected.code] += 1
        self.examples.setdefault(rejected.code, rejected)
        if len(self.first) < _SHOWN:
            self.first.append(rejected)
        self.stream.write(canonical_json(msgspec.to_builtins(rejected)) + b"\n")

    def shown(self) -> list[dict[str, Any]]:
        """Return the first of them for a summary."""
        found: list[dict[str, Any]] = msgspec.to_builtins(self.first)
        return found
