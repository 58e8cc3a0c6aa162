"""Access log and metrics."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.gateway.observe import ACCESS_FILE, Observer, Visit


def visit(**more: object) -> Visit:
    made = Visit(id="req-1", at="2026-06-01T12:00:00.000000Z", started=10.0, route="/v1/models", status=200)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_one_line_per_request(tmp_path: Path) -> None:
    observer = Observer(tmp_path)
    observer.close_visit(visit(first_token=10.25, completion_tokens=3, model="desk"), 12.0)
    observer.close_visit(visit(status=404), 10.5)
    observer.close()
    lines = [json.loads(line) for line in (tmp_path / ACCESS_FILE).read_text().splitlines()]
    assert [(line["ttft"], line["duration"], line["status"]) for line in lines] == [(0.25, 2.0, 200), (None, 0.5, 404)]
    text = observer.exposition().decode()
    assert 'intramuros_gateway_time_to_first_token_seconds_count{model="desk"} 1.0' in text
    assert 'intramuros_gateway_requests_total{model="",route="/v1/models",status="404"} 1.0' in text


def test_a_line_that_cannot_be_written_is_counted_and_costs_no_answer(tmp_path: Path) -> None:
    observer = Observer(tmp_path / "absent")
    observer.close_visit(visit(), 11.0)
    assert "intramuros_gateway_access_lines_lost_total 1.0" in observer.exposition().decode()
