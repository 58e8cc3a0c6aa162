"""The figures for Prometheus, also when nobody answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from appliance.api import types as t
from appliance.cli.main import main
from appliance.cli.metrics import lines
from tests.factories.resident import resident

_VIEW = t.StatusView(
    version="1",
    instance="x",
    state_directory="/srv",
    started_at="2026-01-01T00:00:00.000000Z",
    address="https://localhost:8443",
    units=(
        t.UnitView(name="gateway", state="ready", pid=1, since="", memory_bytes=7, restarts=2),
        t.UnitView(name="engine-1", state="starting", since=""),
    ),
    jobs_running=1,
    jobs_queued=2,
    models=3,
    datasets=4,
    deployments=5,
    disk_free=6,
    disk_total=7,
    memory_available=8,
    audit_events=9,
    audit_checkpoint="",
    last_backup="2026-06-01T12:00:00.000000Z",
    attention=(),
)


_NAMING = ("unit", "deployment", "gpu")


def _values(
    view: t.StatusView | None, ends: datetime | None = None, serving: t.ServingView | None = None
) -> dict[tuple[str, str], float]:
    text = "".join(f"{line}\n" for line in lines(view, serving, certificate_ends=ends))
    return {
        (sample.name, next((sample.labels[name] for name in _NAMING if name in sample.labels), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_are_what_the_status_says() -> None:
    values = _values(_VIEW, datetime(2026, 6, 2, tzinfo=UTC))
    assert values["intramuros_up", ""] == 1
    assert values["intramuros_last_backup_seconds", ""] == datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
    assert values["intramuros_certificate_not_after_seconds", ""] == datetime(2026, 6, 2, tzinfo=UTC).timestamp()
    assert (values["intramuros_unit_ready", "gateway"], values["intramuros_unit_ready", "engine-1"]) == (1, 0)
    assert values["intramuros_unit_memory_bytes", "gateway"] == 7
    assert values["intramuros_unit_restarts", "gateway"] == 2


def test_memory_for_serving_is_told_by_deployment() -> None:
    chat = resident(revision=3, waiting=2, measured=5, error=0.25)
    values = _values(_VIEW, None, t.ServingView(budget=10, used=5, available=7, models=(chat,), decisions=()))
    assert (values["intramuros_serving_budget_bytes", ""], values["intramuros_serving_used_bytes", ""]) == (10, 5)
    names = ("resident", "predicted_bytes", "measured_bytes", "streams", "queue")
    assert [values[f"intramuros_deployment_{name}", "chat"] for name in names] == [1, 4, 5, 0, 2]


def test_the_memory_of_gpus_is_told_where_there_are_any() -> None:
    empty = t.ServingView(budget=10, used=5, available=7, models=(), decisions=())
    assert not [name for name, _ in _values(_VIEW, None, empty) if "gpu" in name]
    card = t.GpuView(name="CUDA0", description="a card", total=8, free=6, budget=5, used=2)
    values = _values(_VIEW, None, structs.replace(empty, gpus=(card,)))
    names = ("total", "free", "budget", "used")
    assert [values[f"intramuros_gpu_{name}_bytes", "CUDA0"] for name in names] == [8, 6, 5, 2]


def test_silence_is_the_one_figure_that_is_left() -> None:
    assert _values(None) == {("intramuros_up", ""): 0}


def test_the_file_is_replaced_and_readable_by_the_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTRAMUROS_PATIENCE", "0")
    out = tmp_path / "intramuros.prom"
    assert main(["metrics", "--state", str(tmp_path), "--out", str(out)]) == 0
    assert "intramuros_up 0\n" in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o644
