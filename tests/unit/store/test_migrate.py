from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from appliance.kernel.errors import Conflict, IntegrityFailure
from appliance.store import migrate
from appliance.store.schema import SCHEMA_REVISION, metadata

_SCRIPTS = Path(migrate.__file__).parent / "migrations"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


def tables(database: Path) -> set[str]:
    connection = sqlite3.connect(database)
    try:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()


def test_the_known_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_REVISION


def test_migrating_an_empty_database_gives_exactly_the_tables(database: Path) -> None:
    migrate.ensure_schema(database)
    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_second_start_changes_nothing(database: Path) -> None:
    migrate.ensure_schema(database)
    before = database.read_bytes()
    migrate.ensure_schema(database)
    assert database.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_alone(database: Path) -> None:
    migrate.ensure_schema(database)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(Conflict) as raised:
        migrate.ensure_schema(database)
    assert raised.value.code == "store.newer"
    assert "9999" in raised.value.message
    assert database.read_bytes() == before


def test_bytes_that_are_no_database_are_called_damage(database: Path) -> None:
    database.write_bytes(b"This was a database once. " * 100)
    with pytest.raises(IntegrityFailure) as raised:
        migrate.ensure_schema(database)
    assert raised.value.code == "store.damaged"
    assert "restore" in raised.value.hint


def test_keys_of_an_earlier_version_are_served_and_kept_apart_as_before(database: Path) -> None:
    migrate.ensure_schema(database)
    with sqlite3.connect(database) as connection:
        for column in ("priority", "share_group"):
            connection.execute(f"ALTER TABLE api_keys DROP COLUMN {column}")
        row = ("k", "desk", "0" * 64, "[]", "anna", "2026-01-01T00:00:00Z", "", "")
        connection.execute(f"INSERT INTO api_keys VALUES ({', '.join('?' * len(row))})", row)
        connection.execute("UPDATE alembic_version SET version_num = '0005'")
    connection.close()
    migrate.ensure_schema(database)
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT name, priority, share_group FROM api_keys").fetchall()
    connection.close()
    assert found == [("desk", "interactive", "")]


_CUT_OFF = """
import pathlib, resource, sys
from appliance.kernel.errors import StorageFailure
from appliance.store.migrate import ensure_schema
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))
try:
    ensure_schema(pathlib.Path(sys.argv[1]))
except StorageFailure as error:
    print(error.code)
"""


def test_an_upgrade_that_the_disk_cut_off_leaves_nothing_and_can_be_repeated(database: Path) -> None:
    cut = subprocess.run([sys.executable, "-c", _CUT_OFF, str(database)], capture_output=True, text=True, check=False)
    assert cut.stdout == "storage.io\n", cut.stderr
    assert tables(database) == set()
    migrate.ensure_schema(database)
    assert set(metadata.tables) <= tables(database)
