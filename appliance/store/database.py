"""One SQLite database, WAL, foreign keys on, synchronous=FULL. A write is one BEGIN IMMEDIATE transaction.

What a `write` block did is on the disk when the block is left, all of it or nothing. Only the daemon writes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, exc

from appliance.kernel.errors import IntegrityFailure, StorageFailure

_BUSY_SECONDS = 30


class Database:
    """Transactions on the state database; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.RLock()
        self._engine = create_engine(
            f"sqlite:///{path}", connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False}
        )
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot for reading."""
        with _plain_errors(self.path), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One durable transaction; rolled back when the block raises."""
        with self._writing, _plain_errors(self.path), self._engine.connect() as connection:
            connection = connection.execution_options(intramuros_write=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get("intramuros_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except exc.OperationalError as error:
        text = str(error.orig)
        if "full" in text:
            raise StorageFailure(
                "storage.full",
                f"No space left on the disk for the state database {path}.",
                hint="Free some space and run the same command again; nothing was half-done.",
            ) from error
        if "readonly" in text or "unable to open" in text:
            raise StorageFailure(
                "storage.not_writable",
                f"The state database {path} cannot be written: {text}.",
                hint="Check that the disk is mounted read-write and the directory belongs to this user.",
            ) from error
        raise
    except exc.DatabaseError as error:
        if "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise IntegrityFailure(
                "store.damaged",
                f"The state database {path} is damaged: {error.orig}.",
                hint="Restore the newest backup with `intramuros backup restore`.",
            ) from error
        raise
