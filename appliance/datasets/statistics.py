"""Figures of one part of a data set: how many rows, how long, which labels, what personal data. Never the rows.

Lengths are kept as numbers, four bytes a row, so that quantiles are exact.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.datasets.personal_data import find_personal_data
from appliance.datasets.rows import characters_of, labels_of, texts_of

_QUANTILES: Final = (5, 25, 50, 75, 95, 99)


@dataclass(slots=True)
class Statistics:
    """Running figures of a part."""

    lengths: array[int] = field(default_factory=lambda: array("L"))
    labels: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)
    personal_rows: int = 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    def add(self, content: Mapping[str, Any]) -> None:
        """Take a row in."""
        self.lengths.append(characters_of(content))
        self.labels.update(labels_of(content))
        found = Counter(finding.kind.value for text in texts_of(content) for finding in find_personal_data(text))
        self.personal += found
        self.personal_rows += bool(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as they stand in a report."""
        figures: dict[str, Any] = {
            "rows": self.rows,
            "characters": spread(self.lengths),
            "personal": dict(sorted(self.personal.items())),
            "personal_rows": self.personal_rows,
        }
        if self.labels:
            figures |= {"labels": len(self.labels), "balance": balance(self.labels)}
        return figures


def spread(values: Sequence[int]) -> dict[str, float]:
    """Return least, mean, greatest and quantiles (nearest rank) of whole numbers; all zero where there are none."""
    ordered = sorted(values) or [0]
    figures: dict[str, float] = {
        "min": ordered[0],
        "mean": round(sum(ordered) / len(ordered), 1),
        "max": ordered[-1],
        "total": sum(ordered),
    }
    return figures | {f"p{q}": ordered[max(0, math.ceil(q * len(ordered) / 100) - 1)] for q in _QUANTILES}


def balance(labels: Mapping[str, int]) -> float:
    """Return how even labels are: entropy over the greatest possible, 1 when all are equally frequent."""
    total = sum(labels.values())
    if len(labels) < 2:
        return 0.0
    entropy = -sum(count / total * math.log(count / total) for count in labels.values())
    return round(entropy / math.log(len(labels)), 4)


def label_table(train: Counter[str], heldout: Counter[str]) -> list[dict[str, Any]]:
    """Return every label with its rows of each part, the most frequent first."""
    both = train + heldout
    return [
        {"label": label, "train": train[label], "heldout": heldout[label]}
        for label in sorted(both, key=lambda label: (-both[label], label))
    ]
