"""Alembic's entry: one connection, one transaction for the whole upgrade."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from appliance.store.schema import metadata

_url = context.config.get_main_option("sqlalchemy.url")
if _url is None:
    raise RuntimeError("sqlalchemy.url is not set; call appliance.store.migrate.ensure_schema")

with create_engine(_url).connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
