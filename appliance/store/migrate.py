"""Brings a state database to this version's schema, and refuses one that a newer version wrote.

An upgrade is one transaction: after a power cut the database has the old schema, and the next start repeats it.
Alembic is imported only when there is something to do: a start with an up-to-date database does not pay for it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from appliance.kernel.errors import Conflict
from appliance.store.database import plain_errors
from appliance.store.schema import SCHEMA_REVISION

_SCRIPTS = Path(__file__).parent / "migrations"


def ensure_schema(database: Path) -> None:
    """Create or upgrade the tables. Raises Conflict (a newer version wrote it), IntegrityFailure, StorageFailure."""
    with plain_errors(database):
        _ensure(database)


def _ensure(database: Path) -> None:
    present = _present_revision(database)
    if present == SCHEMA_REVISION:
        return
    if present is not None and present not in _known_revisions():
        raise Conflict(
            "store.newer",
            f"{database} has schema {present}, written by a newer version; this one knows {SCHEMA_REVISION}.",
            hint="Use the newer version, or restore a backup made by this one.",
        )
    _upgrade(database)


def _present_revision(database: Path) -> str | None:
    if not database.exists():
        return None
    connection = sqlite3.connect(database)
    try:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
        if not tables:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None
    finally:
        connection.close()


def _known_revisions() -> frozenset[str]:
    return frozenset(path.name.split("_", 1)[0] for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))


def _upgrade(database: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{database}")
    command.upgrade(config, "head")
