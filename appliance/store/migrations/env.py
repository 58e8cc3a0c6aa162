"""Alembic's entry: one connection, one transaction for the whole upgrade."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, event

from appliance.store.schema import metadata

_url = context.config.get_main_option("sqlalchemy.url")
if _url is None:
    raise RuntimeError("sqlalchemy.url is not set; call appliance.store.migrate.ensure_schema")

_engine = create_engine(_url)


@event.listens_for(_engine, "connect")
def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
    # Otherwise the driver commits after every CREATE TABLE, and a power cut leaves half a schema.
    connection.isolation_level = None


@event.listens_for(_engine, "begin")
def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


with _engine.connect() as _connection:
    context.configure(connection=_connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
_engine.dispose()
