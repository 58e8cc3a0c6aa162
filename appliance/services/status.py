"""The whole appliance at a glance, and what needs a person's attention."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil
from sqlalchemy import ColumnElement, Connection, Table, func, select

from appliance.access.tls import LOOPBACK, certificate_expiry, certificate_names, public_part
from appliance.api import types as t
from appliance.services.context import Context
from appliance.services.version import product_version
from appliance.store.schema import (
    audit_checkpoints,
    audit_events,
    datasets,
    deployments,
    jobs,
    models,
)

_LITTLE_DISK = 2 << 30
_CERTIFICATE_DAYS = 14
_RENEW_OWN = "A restart renews it: `intramuros down`, then `intramuros up`."
_RENEW_GIVEN = "On a box: `intramuros tls show`, then `intramuros tls renew` or `intramuros tls import`."
_SETTLED_STATES = ("ready", "starting", "draining")


def status(
    ctx: Context, units: tuple[t.UnitView, ...], *, isolated: bool, hindered: Mapping[str, str] | None = None
) -> t.StatusView:
    """Gather the figures of every part. `hindered` names deployments that cannot get into memory, with the reason."""
    disk = shutil.disk_usage(ctx.state_root)
    with ctx.appliance.database.read() as connection:
        running, queued = (_count(connection, jobs, jobs.c.state == state) for state in ("running", "queued"))
        failed = connection.execute(
            select(jobs.c.id).where(jobs.c.state == "failed").order_by(jobs.c.id.desc()).limit(1)
        ).scalar()
        newest_job = connection.execute(select(func.max(jobs.c.id))).scalar()
        view = t.StatusView(
            version=product_version(),
            instance=ctx.appliance.instance,
            state_directory=str(ctx.state_root),
            started_at=ctx.appliance.started_at,
            address=address(ctx),
            units=units,
            jobs_running=running,
            jobs_queued=queued,
            models=_count(connection, models, models.c.removed_at == ""),
            datasets=_count(connection, datasets),
            deployments=_count(connection, deployments, deployments.c.removed_at == ""),
            disk_free=disk.free,
            disk_total=disk.total,
            memory_available=psutil.virtual_memory().available,
            audit_events=_count(connection, audit_events),
            audit_checkpoint=connection.execute(select(func.max(audit_checkpoints.c.at))).scalar() or "",
            last_backup=_last_backup(connection),
            attention=(),
        )
    attention = _attention(ctx, view, isolated=isolated, failed=failed if failed == newest_job else None)
    attention += tuple(
        t.Attention(level="WARN", text=f"{name} is not in memory: {why}", hint="intramuros serving show")
        for name, why in sorted((hindered or {}).items())
    )
    return msgspec.structs.replace(view, attention=attention)


def address(ctx: Context) -> str:
    """Return the gateway's address as clients type it; on a box, by the first name others know it by."""
    host = ctx.appliance.settings.host
    if ctx.appliance.settings.tls_file:
        names = certificate_names(public_certificate(ctx))
        host = next((name for name in names if name not in LOOPBACK), host)
    return f"https://{f'[{host}]' if ':' in host else host}:{ctx.appliance.settings.port}"


def _attention(ctx: Context, view: t.StatusView, *, isolated: bool, failed: str | None) -> tuple[t.Attention, ...]:
    found = [
        t.Attention(
            level="FAIL",
            text=f"{unit.name} is {unit.state} ({unit.detail or 'no reason given'})",
            hint=f"See {ctx.appliance.paths.logs}/{unit.name}.log",
        )
        for unit in view.units
        if unit.state not in _SETTLED_STATES
    ]
    if view.disk_free < _LITTLE_DISK:
        found.append(t.Attention(level="FAIL", text="less than 2 GiB of disk are free", hint="Remove unused models."))
    left = certificate_expiry(public_certificate(ctx)) - ctx.appliance.clock()
    if left.days < _CERTIFICATE_DAYS:
        found.append(
            t.Attention(
                level="WARN",
                text=f"the gateway's certificate ends in {left.days} days",
                hint=_RENEW_GIVEN if ctx.appliance.settings.tls_file else _RENEW_OWN,
            )
        )
    if failed:
        found.append(
            t.Attention(level="WARN", text=f"the newest job failed ({failed})", hint=f"intramuros job show {failed}")
        )
    if not view.last_backup and view.models:
        found.append(t.Attention(level="WARN", text="no backup was ever taken", hint="intramuros backup create"))
    if not isolated:
        found.append(
            t.Attention(
                level="WARN",
                text="engines and jobs keep the network: this system allows no network namespace",
                hint="Run as root, or allow unprivileged user namespaces.",
            )
        )
    return tuple(found)


def public_certificate(ctx: Context) -> Path:
    """Return the file with the gateway's certificate that may be read without its key."""
    given = ctx.appliance.settings.tls_file
    return public_part(Path(given)) if given else ctx.appliance.paths.leaf_certificate


def _last_backup(connection: Connection) -> str:
    query = select(func.max(audit_events.c.at)).where(
        audit_events.c.action == "backup.create", audit_events.c.phase == "done"
    )
    return connection.execute(query).scalar() or ""


def _count(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(table).where(*conditions)
    return int(connection.execute(query).scalar() or 0)
