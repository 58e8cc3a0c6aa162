"""`intramuros metrics`: the appliance's figures in Prometheus' text format, for node exporter's textfile collector.

What the gateway counts itself (requests, tokens, times) Prometheus reads from the gateway; this is what only the
daemon knows, and whether it answers at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.session import Session, verb
from appliance.kernel.clock import from_text
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntramurosError, storage_errors


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Replace this file instead of printing.")
@click.option("--certificate", type=click.Path(path_type=Path), help="Certificate whose end is told, too.")
@verb
def metrics(session: Session, out: Path | None, certificate: Path | None) -> None:
    """Print the appliance's figures for Prometheus."""
    view = _status(session)
    serving = session.send(calls.serving()) if view is not None else None
    ends = _end_of(certificate) if certificate else None
    text = "".join(f"{line}\n" for line in lines(view, serving, certificate_ends=ends))
    if out is None:
        click.echo(text, nl=False)
        return
    with storage_errors(f"writing {out}"):
        write_file(out, text.encode(), mode=0o644, exact=True)


def _status(session: Session) -> t.StatusView | None:
    """Return the status, or None: that nobody answers is the most important figure of all."""
    if not session.paths.control_socket.exists():
        return None
    try:
        return session.send(calls.status())
    except IntramurosError:
        return None


def lines(
    view: t.StatusView | None, serving: t.ServingView | None, *, certificate_ends: datetime | None
) -> Iterator[str]:
    """Yield the exposition (Prometheus text format 0.0.4); `view` is None when nobody answered."""
    yield from _gauge("intramuros_up", "Whether the daemon answers.", 0 if view is None else 1)
    if certificate_ends is not None:
        text = "End of the gateway's certificate, epoch seconds."
        yield from _gauge("intramuros_certificate_not_after_seconds", text, int(certificate_ends.timestamp()))
    if view is None:
        return
    yield from _gauge("intramuros_jobs_running", "Jobs that run.", view.jobs_running)
    yield from _gauge("intramuros_jobs_queued", "Jobs that wait.", view.jobs_queued)
    yield from _gauge("intramuros_models", "Registered model versions.", view.models)
    yield from _gauge("intramuros_deployments", "Served names.", view.deployments)
    yield from _gauge("intramuros_state_free_bytes", "Free disk of the state directory.", view.disk_free)
    yield from _gauge("intramuros_audit_events", "Events of the audit trail.", view.audit_events)
    last = int(from_text(view.last_backup).timestamp()) if view.last_backup else 0
    yield from _gauge("intramuros_last_backup_seconds", "Newest backup, epoch seconds; 0 for none.", last)
    yield from _gauge("intramuros_attention", "Things that need a person.", len(view.attention))
    yield from _per_unit("intramuros_unit_ready", "Whether a process serves.", view, "ready")
    yield from _per_unit("intramuros_unit_memory_bytes", "Resident memory of a process.", view, "memory")
    yield from _per_unit("intramuros_unit_restarts", "Restarts by the daemon.", view, "restarts")
    if serving is not None:
        yield from _serving(serving)


def _serving(view: t.ServingView) -> Iterator[str]:
    yield from _gauge("intramuros_serving_budget_bytes", "Memory that engines may take together.", view.budget)
    yield from _gauge("intramuros_serving_used_bytes", "Memory that is charged to engines now.", view.used)
    figures: tuple[tuple[str, str, Callable[[t.ResidentView], int]], ...] = (
        ("resident", "Whether a deployment's model is in memory.", lambda one: int(one.state == "resident")),
        ("predicted_bytes", "Memory that its engine was predicted to need.", lambda one: one.predicted.total),
        ("measured_bytes", "Memory that its engine takes; 0 before it was measured.", lambda one: one.measured),
        ("streams", "Requests that its engine works on.", lambda one: one.engine.streams if one.engine else 0),
        ("queue", "Requests that wait.", lambda one: one.waiting + (one.engine.queue if one.engine else 0)),
    )
    for name, text, figure in figures:
        metric = f"intramuros_deployment_{name}"
        yield from (f"# HELP {metric} {text}", f"# TYPE {metric} gauge")
        for one in view.models:
            yield f'{metric}{{deployment="{one.deployment}",revision="{one.revision}"}} {figure(one)}'
    if view.gpus:
        yield from _gpus(view.gpus)


def _gpus(gpus: tuple[t.GpuView, ...]) -> Iterator[str]:
    figures: tuple[tuple[str, str, Callable[[t.GpuView], int]], ...] = (
        ("total", "Memory of a GPU.", lambda one: one.total),
        ("free", "Memory of a GPU that nobody uses, as its driver tells.", lambda one: one.free),
        ("budget", "Memory of a GPU that engines may take together.", lambda one: one.budget),
        ("used", "Memory of a GPU that is charged to engines now.", lambda one: one.used),
    )
    for name, text, figure in figures:
        metric = f"intramuros_gpu_{name}_bytes"
        yield from (f"# HELP {metric} {text}", f"# TYPE {metric} gauge")
        for one in gpus:
            yield f'{metric}{{gpu="{one.name}"}} {figure(one)}'


def _gauge(name: str, text: str, value: int) -> Iterator[str]:
    yield from (f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value}")


def _per_unit(name: str, text: str, view: t.StatusView, figure: str) -> Iterator[str]:
    yield from (f"# HELP {name} {text}", f"# TYPE {name} gauge")
    for unit in view.units:
        values = {"ready": int(unit.state == "ready"), "memory": unit.memory_bytes, "restarts": unit.restarts}
        yield f'{name}{{unit="{unit.name}"}} {values[figure]}'


def _end_of(certificate: Path) -> datetime:
    from appliance.access.tls import certificate_expiry

    return certificate_expiry(certificate)
