"""Hits, misses and false alarms are counted for each kind apart."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.personal_data import measure, milliseconds_per_kib


def test_recall_and_precision_count_spans_and_findings(tmp_path: Path) -> None:
    whole = {"start_position": 0, "end_position": 7}
    rows = [
        {"full_text": "a@b.org", "spans": [whole | {"entity_type": "EMAIL_ADDRESS"}]},
        {"full_text": "a (at) b", "spans": [whole | {"entity_type": "EMAIL_ADDRESS"}]},
        {"full_text": "192.168.0.1 c@d.org", "spans": [whole | {"entity_type": "PERSON"}]},
    ]
    file = tmp_path / "pii.json"
    file.write_text(json.dumps(rows))
    figures = measure(file)
    assert figures["email"] == {"spans": 2, "recall": 0.5, "precision": 0.5}
    assert figures["ip"] == {"spans": 0, "recall": 0.0, "precision": 0.0}
    assert milliseconds_per_kib(file) > 0
