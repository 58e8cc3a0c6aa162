"""Staging while others write: whatever the interleaving, the copy names only blobs that it holds."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing

import pytest

from appliance.backups.manifest import blob_files, read_manifest
from appliance.backups.scratch import scratch_directory
from appliance.backups.snapshot import reading, remove_leftovers, stage
from appliance.kernel.canonical import sha256_file
from appliance.kernel.errors import IntegrityFailure, NotFound, Unavailable
from appliance.kernel.paths import StatePaths
from tests.unit.backups.state_directory import StateDirectory, named_blobs


def test_the_staged_tree_is_a_state_directory(state: StateDirectory) -> None:
    with stage(state.paths, instance="i", version="1.2.3") as root:
        found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        blobs = {str(path.relative_to(root)) for _, path in blob_files(root / "blobs")}
        assert found - blobs == {
            "backup.json",
            "gates.toml",
            "intramuros.sqlite3",
            "secrets/audit.key",
            "secrets/ca.key",
            "tls/ca.crt",
        }
        assert len(blobs) == 5
        manifest = read_manifest(root)
        assert (manifest.instance, manifest.version, manifest.blobs.count) == ("i", "1.2.3", 5)
        assert manifest.database.digest == sha256_file(root / "intramuros.sqlite3")
        staged_blob = next(path for _, path in blob_files(root / "blobs"))
        assert staged_blob.samefile(state.paths.root / staged_blob.relative_to(root)), "blobs are linked, not copied"
    assert not root.exists()


def test_uncheckpointed_writes_are_in_the_copy(state: StateDirectory) -> None:
    """The newest rows are in the write-ahead log only; a copy of the file alone would miss them."""
    with closing(state.connect()) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        digest = state.register(writer, b"newest")
        with stage(state.paths, instance="i", version="1") as root, reading(StatePaths(root).database) as copy:
            assert digest in named_blobs(copy)


def test_a_reader_does_not_wait_for_an_open_write_transaction(state: StateDirectory) -> None:
    with closing(state.connect()) as writer:
        writer.execute("BEGIN IMMEDIATE")
        digest = state.register(writer, b"not committed")
        with stage(state.paths, instance="i", version="1") as root, reading(StatePaths(root).database) as copy:
            assert digest not in named_blobs(copy)
        writer.execute("COMMIT")


def test_temporary_and_foreign_names_are_left_out(state: StateDirectory) -> None:
    shard = next(path for _, path in blob_files(state.paths.blobs)).parent
    (shard / ".half.tmp").write_text("half a blob")
    (state.paths.secrets / ".audit.key.0f.tmp").write_text("half a key")
    with stage(state.paths, instance="i", version="1") as root:
        names = {path.name for path in root.rglob("*")}
    assert not {".half.tmp", ".audit.key.0f.tmp", "backup.password", "gateway.json"} & names


def test_a_concurrent_writer_never_makes_the_copy_inconsistent(state: StateDirectory) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with closing(state.connect()) as connection:
                kept: list[str] = []
                number = 0
                while not stop.is_set():
                    kept.append(state.register(connection, f"live {number}".encode()))
                    if number % 3:
                        state.remove(connection, kept.pop(0))
                    number += 1
        except BaseException as error:
            failures.append(error)
            raise

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(12):
            with (
                stage(state.paths, instance="i", version="1", referenced=named_blobs) as root,
                reading(StatePaths(root).database) as copy,
            ):
                named = set(named_blobs(copy))
                held = {digest for digest, _ in blob_files(root / "blobs")}
                assert named <= held
                assert named
    finally:
        stop.set()
        writer.join()
    assert not failures


def test_a_row_added_and_removed_between_the_passes_makes_it_try_again(state: StateDirectory) -> None:
    """The one interleaving that two passes cannot catch: the copy is asked, found wanting, and taken again."""
    asked = 0

    def first_copy_names_a_gone_blob(copy: sqlite3.Connection) -> Iterable[str]:
        nonlocal asked
        asked += 1
        return [*named_blobs(copy), *(["0" * 64] if asked == 1 else [])]

    with stage(state.paths, instance="i", version="1", referenced=first_copy_names_a_gone_blob) as root:
        assert read_manifest(root).blobs.count == 5
    assert asked == 2


def test_a_blob_that_is_lost_for_good_is_named(state: StateDirectory) -> None:
    digest, path = next(blob_files(state.paths.blobs))
    path.unlink()
    with (
        pytest.raises(IntegrityFailure) as caught,
        stage(state.paths, instance="i", version="1", referenced=named_blobs),
    ):
        pass
    assert caught.value.code == "backup.missing_blob"
    assert digest in caught.value.message
    assert not (state.paths.root / "staging").exists()


def test_a_damaged_database_is_not_backed_up(state: StateDirectory) -> None:
    with closing(state.connect()) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO model VALUES (?)", [(f"{number:0100}",) for number in range(2000)])
        connection.execute("COMMIT")
    content = bytearray(state.paths.database.read_bytes())
    content[8192:12288] = bytes(4096)
    state.paths.database.write_bytes(content)
    with pytest.raises(IntegrityFailure) as caught, stage(state.paths, instance="i", version="1"):
        pass
    assert caught.value.code == "backup.database_damaged"


def test_something_else_than_a_database_is_not_backed_up(state: StateDirectory) -> None:
    state.paths.database.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(IntegrityFailure) as caught, stage(state.paths, instance="i", version="1"):
        pass
    assert caught.value.code == "backup.database_damaged"


def test_an_empty_directory_is_no_state(state: StateDirectory) -> None:
    state.paths.database.unlink()
    with pytest.raises(NotFound) as caught, stage(state.paths, instance="i", version="1"):
        pass
    assert caught.value.code == "backup.no_state"


def test_the_remains_of_a_killed_run_are_removed(state: StateDirectory) -> None:
    remains = state.paths.root / "staging"
    (remains / "blobs").mkdir(parents=True)
    (remains / "blobs" / "old").write_text("old")
    with stage(state.paths, instance="i", version="1") as root:
        assert not (root / "blobs" / "old").exists()
    assert not remains.exists()
    remains.mkdir()
    assert remove_leftovers(state.paths)
    assert not remains.exists()
    assert not remove_leftovers(state.paths)


def test_two_captures_at_once_are_refused_and_the_first_survives(state: StateDirectory) -> None:
    with stage(state.paths, instance="i", version="1") as root:
        with pytest.raises(Unavailable) as caught, stage(state.paths, instance="i", version="1"):
            pass
        assert caught.value.code == "backup.busy"
        assert not remove_leftovers(state.paths)
        assert (root / "backup.json").exists()


def test_a_scratch_directory_that_was_renamed_away_stays(state: StateDirectory) -> None:
    place = state.paths.root / "scratch"
    with scratch_directory(place) as root:
        (root / "x").write_text("x")
        root.rename(state.paths.root / "kept")
        place.mkdir()
    assert (state.paths.root / "kept" / "x").exists()
    assert place.exists(), "somebody else's directory of the same name is not ours to remove"


def test_a_blob_that_has_rotted_is_not_staged(state: StateDirectory) -> None:
    digest, path = next(blob_files(state.paths.blobs))
    path.chmod(0o600)
    path.write_bytes(b"rotten")
    with pytest.raises(IntegrityFailure) as raised, stage(state.paths, instance="i", version="1"):
        raise AssertionError("a damaged capture was handed out")
    assert raised.value.code == "backup.blob_damaged"
    assert digest in raised.value.message


def test_what_was_not_written_since_is_not_read_again(state: StateDirectory) -> None:
    _, path = next(blob_files(state.paths.blobs))
    path.chmod(0o600)
    path.write_bytes(b"rotten, and not noticed")
    os.utime(path, (1000, 1000))
    with stage(state.paths, instance="i", version="1", changed_since=1001):
        pass
