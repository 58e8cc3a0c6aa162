from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from appliance.kernel.errors import IntegrityFailure, IntramurosError, StorageFailure
from appliance.store.database import Database
from appliance.store.migrate import ensure_schema
from appliance.store.schema import datasets, meta


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    ensure_schema(tmp_path / "state.sqlite3")
    opened = Database(tmp_path / "state.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def put(connection: Connection, key: str, value: str = "x") -> None:
    connection.execute(insert(meta).values(key=key, value=value))


def count(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(meta)).scalar_one())


def test_every_connection_is_durable_and_checks_references(database: Database) -> None:
    for open_block in (database.read, database.write):
        with open_block() as connection:
            answers = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "foreign_keys", "synchronous")
            ]
        assert answers == ["wal", 1, 2]


def test_what_a_block_wrote_is_there_all_of_it_or_nothing(database: Database) -> None:
    with database.write() as connection:
        put(connection, "kept")

    def stop_in_the_middle() -> None:
        with database.write() as connection:
            put(connection, "lost")
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        stop_in_the_middle()
    assert count(database) == 1


def test_a_broken_reference_is_refused_and_rolls_back(database: Database) -> None:
    row = {"id": "1", "name": "x", "version": 1, "digest": "", "created_by": "", "created_at": "", "files": []}

    def refer_to_nobody() -> None:
        with database.write() as connection:
            put(connection, "lost")
            connection.execute(insert(datasets).values(**row, summary={}, job_id="nobody"))

    with pytest.raises(IntegrityError):
        refer_to_nobody()
    assert count(database) == 0


def test_a_reader_sees_one_instant(database: Database) -> None:
    with database.read() as reading:
        assert reading.execute(select(meta)).all() == []
        with database.write() as writing:
            put(writing, "later")
        assert reading.execute(select(meta)).all() == []
    assert count(database) == 1


def test_writers_in_several_threads_follow_each_other(database: Database) -> None:
    def add_one() -> None:
        for _ in range(5):
            with database.write() as connection:
                present = connection.execute(select(func.count()).select_from(meta)).scalar_one()
                put(connection, f"number {present}")

    threads = [threading.Thread(target=add_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 20


def test_a_full_disk_is_named_and_nothing_is_half_done(small_disk: Path) -> None:
    ensure_schema(small_disk / "state.sqlite3")
    database = Database(small_disk / "state.sqlite3")

    def fill_the_disk() -> None:
        with database.write() as connection:
            for number in range(64):
                put(connection, f"row {number}", "x" * (64 << 10))

    with pytest.raises(StorageFailure) as raised:
        fill_the_disk()
    assert raised.value.code == "storage.full"
    assert count(database) == 0
    with database.write() as connection:
        put(connection, "small")
    assert count(database) == 1
    database.close()


def test_a_disk_that_was_remounted_read_only_is_named(small_disk: Path) -> None:
    ensure_schema(small_disk / "state.sqlite3")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    database = Database(small_disk / "state.sqlite3")
    with pytest.raises(StorageFailure) as raised, database.write() as connection:
        put(connection, "x")
    assert raised.value.code == "storage.not_writable"
    database.close()


def test_a_missing_directory_is_a_storage_failure(tmp_path: Path) -> None:
    database = Database(tmp_path / "absent" / "state.sqlite3")
    with pytest.raises(StorageFailure) as raised, database.read():
        pass
    assert raised.value.code == "storage.not_writable"


def test_overwritten_pages_are_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    ensure_schema(path)
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xa5" * (size - 4096))
    database = Database(path)
    with pytest.raises(IntegrityFailure) as raised, database.write() as connection:
        put(connection, "x")
    assert raised.value.code == "store.damaged"
    database.close()


def test_a_database_that_somebody_else_holds_is_busy_not_broken(database: Database) -> None:
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    hasty = Database(database.path, busy_seconds=0.05)
    with pytest.raises(IntramurosError) as raised, hasty.write() as connection:
        put(connection, "x")
    assert (raised.value.code, raised.value.retryable) == ("store.busy", True)
    other.execute("ROLLBACK")
    other.close()
    hasty.close()
