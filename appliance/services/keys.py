"""API keys: created, listed, revoked. The secret leaves once, in the answer; only its hash is stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Row, insert, select, update

from appliance.access.keys import new_key
from appliance.api import types as t
from appliance.kernel.clock import to_text
from appliance.kernel.errors import BadInput, Conflict, NotFound
from appliance.registry.refs import check_name
from appliance.services.context import Context
from appliance.store.schema import api_keys

_LONGEST_LIFE = 36_500
"""Days."""


def create(ctx: Context, body: t.CreateKey) -> t.NewKey:
    """Create a key and return its secret, this once."""
    ctx.authorise("key.create", body.name)
    check_name(body.name, what="key")
    if not 0 <= body.days <= _LONGEST_LIFE:
        raise BadInput(
            "key.days",
            f"A key cannot live {body.days} days.",
            hint=f"Give 1 to {_LONGEST_LIFE}, or 0 for a key that never expires.",
        )
    for name in body.models:
        check_name(name, what="deployment")
    if body.priority not in t.PRIORITIES:
        raise BadInput(
            "key.priority",
            f"{body.priority!r} is not a priority of a key.",
            hint=f"One of {', '.join(t.PRIORITIES)}.",
        )
    if body.share_group:
        check_name(body.share_group, what="share group")
    now = ctx.appliance.clock()
    fresh = new_key()
    with ctx.appliance.database.write() as connection:
        connection.execute(
            insert(api_keys).values(
                id=fresh.id,
                name=body.name,
                hash=fresh.hash,
                models=list(body.models),
                created_by=ctx.caller.user,
                created_at=to_text(now),
                expires_at=to_text(now + timedelta(days=body.days)) if body.days else "",
                priority=body.priority,
                share_group=body.share_group,
            )
        )
        ctx.record(
            connection,
            "key.create",
            fresh.id,
            name=body.name,
            days=body.days,
            models=list(body.models),
            priority=body.priority,
            share_group=body.share_group,
        )
        row = connection.execute(select(api_keys).where(api_keys.c.id == fresh.id)).one()
    ctx.appliance.doorbell.ring()
    return t.NewKey(key=key_view(row), secret=fresh.secret)


def revoke(ctx: Context, key_id: str) -> t.KeyView:
    """Revoke a key; the gateway forgets it within a second."""
    ctx.authorise("key.revoke", key_id)
    with ctx.appliance.database.write() as connection:
        row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
        if row is None:
            raise NotFound("key.unknown", f"There is no API key {key_id}.", hint="See `intramuros key list`.")
        if row.revoked_at:
            raise Conflict("key.revoked", f"Key {key_id} was revoked at {row.revoked_at}.")
        connection.execute(
            update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=to_text(ctx.appliance.clock()))
        )
        ctx.record(connection, "key.revoke", key_id, name=row.name)
        view = key_view(connection.execute(select(api_keys).where(api_keys.c.id == key_id)).one())
    ctx.appliance.doorbell.ring()
    return view


def list_keys(ctx: Context) -> tuple[t.KeyView, ...]:
    """Return every key, newest first, without secrets."""
    with ctx.appliance.database.read() as connection:
        rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at.desc())).all()
    return tuple(key_view(row) for row in rows)


def key_view(row: Row[Any]) -> t.KeyView:
    """Return one key as the control API tells it."""
    return t.KeyView(
        id=row.id,
        name=row.name,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        models=tuple(row.models),
        priority=row.priority,
        share_group=row.share_group,
    )
