"""Reads, verifies and exports the audit trail. Refused readings and every export are recorded themselves."""

from __future__ import annotations

from sqlalchemy import select

from appliance.api import types as t
from appliance.audit.verify_audit import verify_lines
from appliance.services.context import Context
from appliance.store.schema import audit_events

_MOST = 500


def page(ctx: Context, *, before: int, limit: int, action: str) -> t.Page:
    """Return events, newest first, older than `before` (0 = from the newest)."""
    ctx.authorise("audit.read", "trail")
    limit = max(1, min(limit, _MOST))
    query = select(audit_events).order_by(audit_events.c.seq.desc()).limit(limit)
    if before:
        query = query.where(audit_events.c.seq < before)
    if action:
        query = query.where(audit_events.c.action.startswith(action, autoescape=True))
    with ctx.appliance.database.read() as connection:
        rows = connection.execute(query).all()
    entries = tuple(
        t.AuditEntry(
            seq=row.seq,
            at=row.at,
            actor=row.actor,
            action=row.action,
            target=row.target,
            phase=row.phase,
            detail=row.detail,
            hash=row.hash,
        )
        for row in rows
    )
    return t.Page(entries=entries, next=entries[-1].seq if len(entries) == limit and entries[-1].seq > 1 else 0)


def verify(ctx: Context) -> t.AuditVerdict:
    """Re-compute every hash and signature from the stored rows, with the very rules of the stand-alone verifier."""
    ctx.authorise("audit.read", "trail")
    with ctx.appliance.database.read() as connection:
        lines = ctx.appliance.trail.export(connection)
        head = ctx.appliance.trail.head(connection)
    verdict = verify_lines(lines, public_key=ctx.appliance.trail.key.public_bytes)
    return t.AuditVerdict(
        ok=verdict.ok,
        events=verdict.events,
        checkpoints=verdict.checkpoints,
        head=head.hash,
        problem=verdict.problem,
    )


def export(ctx: Context) -> tuple[str, ...]:
    """Sign the head, record the export and return the whole trail as lines."""
    ctx.authorise("audit.export", "trail")
    with ctx.appliance.database.write() as connection:
        ctx.record(connection, "audit.export", "trail")
    ctx.appliance.trail.sign_head(ctx.appliance.database)
    with ctx.appliance.database.read() as connection:
        return tuple(line.rstrip("\n") for line in ctx.appliance.trail.export(connection))
