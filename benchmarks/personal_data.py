"""How well personal data is found: recall and precision of each kind on labelled sentences, and the time per KiB.

The set is a JSON array of `{"full_text", "spans": [{"entity_type", "start_position", "end_position"}]}` (the form of
presidio-research). A finding is right where it overlaps a span of its kind; one that overlaps none is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from appliance.datasets.personal_data import Kind, find_personal_data
from benchmarks.comparison import write_result

_KINDS = {
    "CREDIT_CARD": Kind.CARD,
    "IBAN_CODE": Kind.IBAN,
    "US_SSN": Kind.SSN,
    "EMAIL_ADDRESS": Kind.EMAIL,
    "PHONE_NUMBER": Kind.PHONE,
    "IP_ADDRESS": Kind.IP,
    "DOMAIN_NAME": Kind.URL,
}
GOAL = 0.95


def measure(file: Path) -> dict[str, dict[str, float]]:
    """Return recall, precision and the number of labelled spans of each kind."""
    wanted: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for row in json.loads(file.read_text()):
        spans = [
            (kind, span["start_position"], span["end_position"])
            for span in row["spans"]
            if (kind := _KINDS.get(span["entity_type"])) is not None
        ]
        findings = find_personal_data(row["full_text"], kinds=frozenset(Kind))
        for kind, start, end in spans:
            wanted[kind] += 1
            hit[kind] += any(f.kind == kind and f.start < end and start < f.end for f in findings)
        for finding in findings:
            found[finding.kind] += 1
            right[finding.kind] += any(
                finding.kind == kind and finding.start < end and start < finding.end for kind, start, end in spans
            )
    return {
        kind: {
            "spans": wanted[kind],
            "recall": round(hit[kind] / wanted[kind], 4) if wanted[kind] else 0.0,
            "precision": round(right[kind] / found[kind], 4) if found[kind] else 0.0,
        }
        for kind in _KINDS.values()
    }


def milliseconds_per_kib(file: Path) -> float:
    """Return the CPU time that one KiB of the set's texts takes, the best of three passes."""
    texts = [row["full_text"] for row in json.loads(file.read_text())]
    size = sum(len(text.encode()) for text in texts) / 1024
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for text in texts:
            find_personal_data(text)
        best = min(best, time.process_time() - began)
    return round(best / size * 1000, 4)


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/personal-data.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.personal_data", description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("INTRAMUROS_TEST_DATA", ""), help="folder that has pii/pii.json"
    )
    file = Path(parser.parse_args(arguments).data) / "pii" / "pii.json"
    kinds = measure(file)
    figures: dict[str, Any] = {
        "kinds": kinds,
        "milliseconds_per_kib": milliseconds_per_kib(file),
        "goal": GOAL,
        "met": all(
            min(figure["recall"], figure["precision"]) >= GOAL for kind, figure in kinds.items() if kind != Kind.URL
        ),
    }
    print(write_result("personal-data", figures).read_text(), end="")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
