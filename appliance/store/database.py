"""One SQLite database, WAL, foreign keys on, synchronous=FULL. A write is one BEGIN IMMEDIATE transaction.

What a `write` block did is on the disk when the block is left, all of it or nothing. Only the daemon writes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, exc

from appliance.kernel.errors import IntegrityFailure, IntramurosError, StorageFailure, Unavailable

_BUSY_SECONDS = 30.0


class Database:
    """Transactions on the state database; safe to use from several threads."""

    def __init__(self, path: Path, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        """`busy_seconds`: how long to wait for another process that holds the database."""
        self.path = path
        self._writing = threading.RLock()
        self._engine = create_engine(
            f"sqlite:///{path}", connect_args={"timeout": busy_seconds, "check_same_thread": False}
        )
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot for reading."""
        with plain_errors(self.path), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One durable transaction; rolled back when the block raises."""
        with self._writing, plain_errors(self.path), self._engine.connect() as connection:
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
def plain_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the disk and of the file into StorageFailure, Unavailable or IntegrityFailure."""
    try:
        yield
    except (exc.DatabaseError, sqlite3.DatabaseError) as error:
        original = error.orig if isinstance(error, exc.DatabaseError) else error
        if (described := _describe(path, str(original))) is not None:
            raise described from error
        raise


def _describe(path: Path, text: str) -> IntramurosError | None:
    """Return the error for SQLite's message (sqlite.org/rescode.html), or None for one that is a defect of ours."""
    if "disk is full" in text:
        return StorageFailure(
            "storage.full",
            f"No space left on the disk for the state database {path}.",
            hint="Free some space and run the same command again; nothing was half-done.",
        )
    if "readonly" in text or "unable to open" in text:
        return StorageFailure(
            "storage.not_writable",
            f"The state database {path} cannot be written: {text}.",
            hint="Check that the disk is mounted read-write and the directory belongs to this user.",
        )
    if "disk I/O error" in text:
        return StorageFailure("storage.io", f"The disk failed under the state database {path}.", hint="Check the disk.")
    if "locked" in text:
        return Unavailable(
            "store.busy",
            f"Another program holds the state database {path}.",
            hint="Close what has it open and try again; only the daemon writes it.",
        )
    if "malformed" in text or "not a database" in text:
        return IntegrityFailure(
            "store.damaged",
            f"The state database {path} is damaged: {text}.",
            hint="Restore the newest backup with `intramuros backup restore`.",
        )
    return None
