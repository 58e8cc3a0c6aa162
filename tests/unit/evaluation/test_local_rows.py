"""Rows of a task that lie beside it."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.evaluation.local_rows import read_local_rows


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    rows = [{"text": "one\u2028line\u0085still"}, {"text": "another"}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "rows.jsonl").write_text("\r\n".join([*lines, ""]), newline="")
    assert read_local_rows(tmp_path / "rows.jsonl") == rows
