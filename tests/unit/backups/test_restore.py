"""From a state directory through restic to a proven copy, and every way in which the proof must fail."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from appliance.backups import manifest as manifests
from appliance.backups.manifest import Manifest, blob_files, read_manifest
from appliance.backups.repository import create, initialise, list_snapshots
from appliance.backups.restore import prove_state, restore_state
from appliance.backups.snapshot import stage
from appliance.kernel.errors import IntegrityFailure
from appliance.kernel.paths import StatePaths
from tests.unit.backups.state_directory import StateDirectory, named_blobs

NOW = datetime(2026, 8, 1, 10, 0, tzinfo=UTC)


def test_a_restored_state_is_the_one_that_was_saved(state: StateDirectory, tmp_path: Path) -> None:
    """Disaster recovery: the state directory is gone; the repository and the password are all there is."""
    repo, password = tmp_path / "usb" / "repository", tmp_path / "usb" / "password"
    initialise(repo, password)
    with stage(state.paths, instance="box-1", version="0.1.0", referenced=named_blobs, clock=lambda: NOW) as root:
        snapshot = create(repo, password, root)
    before = {digest: path.read_bytes() for digest, path in blob_files(state.paths.blobs)}
    with closing(state.connect()) as connection:
        rows = sorted(named_blobs(connection))
    state.paths.root.rename(tmp_path / "burnt")

    restored = restore_state(repo, password, "latest", state.paths.root, referenced=named_blobs)

    assert (restored.snapshot, restored.instance, restored.version) == (snapshot.id, "box-1", "0.1.0")
    assert (restored.at, restored.blobs, restored.target) == (NOW, 5, state.paths.root)
    assert {digest: path.read_bytes() for digest, path in blob_files(state.paths.blobs)} == before
    with closing(state.connect()) as connection:
        assert sorted(named_blobs(connection)) == rows
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    modes = {
        str(path.relative_to(state.paths.root)): stat.S_IMODE(path.stat().st_mode)
        for path in (state.paths.root, state.paths.secrets, state.paths.audit_key, state.paths.database)
    }
    assert modes == {".": 0o700, "secrets": 0o700, "secrets/audit.key": 0o600, "intramuros.sqlite3": 0o600}
    assert state.paths.backup_password.read_bytes() == password.read_bytes()
    assert not state.paths.run.exists()
    assert not (state.paths.root / manifests.NAME).exists()

    # A snapshot that is sound for restic and not for us: refused, and nothing is left of it.
    stray = tmp_path / "stray"
    stray.mkdir()
    (stray / "letter.txt").write_text("no state")
    create(repo, password, stray)
    with pytest.raises(IntegrityFailure) as caught:
        restore_state(repo, password, "latest", tmp_path / "second")
    assert caught.value.code == "backup.not_a_state"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["burnt", "state", "stray", "usb"]
    assert len(list_snapshots(repo, password)) == 2


def a_blob_rots(root: Path) -> None:
    _, path = next(blob_files(root / "blobs"))
    path.chmod(0o600)
    path.write_bytes(b"rotten to the core")


def a_blob_is_missing(root: Path) -> None:
    next(blob_files(root / "blobs"))[1].unlink()


def a_blob_is_replaced_by_another(root: Path) -> None:
    a_blob_is_missing(root)
    digest = hashlib.sha256(b"other").hexdigest()
    path = StatePaths(root).blob(digest)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"other")


def the_database_differs(root: Path) -> None:
    with (root / "intramuros.sqlite3").open("ab") as stream:
        stream.write(bytes(4096))


def a_secret_differs(root: Path) -> None:
    (root / "secrets" / "ca.key").write_text("another key")


def a_file_is_missing(root: Path) -> None:
    (root / "gates.toml").unlink()


def a_file_is_added(root: Path) -> None:
    (root / "secrets" / "extra.key").write_text("extra")


def a_link_is_added(root: Path) -> None:
    (root / "tls" / "link").symlink_to("/etc/hostname")


def the_manifest_is_cut(root: Path) -> None:
    path = root / manifests.NAME
    path.write_bytes(path.read_bytes()[:-20])


def the_manifest_is_of_the_future(root: Path) -> None:
    path = root / manifests.NAME
    path.write_bytes(path.read_bytes().replace(b"intramuros-backup/1", b"intramuros-backup/2"))


def the_database_was_bad_already(root: Path) -> None:
    """Manifest and file agree, but SQLite does not."""
    database = root / "intramuros.sqlite3"
    database.write_bytes(b"not a database" * 1000)
    path = root / manifests.NAME
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    entry = msgspec.structs.replace(manifest.database, digest=hashlib.sha256(database.read_bytes()).hexdigest())
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, database=entry)))


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (a_blob_rots, "backup.incomplete"),
        (a_blob_is_missing, "backup.incomplete"),
        (a_blob_is_replaced_by_another, "backup.incomplete"),
        (the_database_differs, "backup.file_damaged"),
        (a_secret_differs, "backup.file_damaged"),
        (a_file_is_missing, "backup.incomplete"),
        (a_file_is_added, "backup.incomplete"),
        (a_link_is_added, "backup.unexpected"),
        (the_manifest_is_cut, "backup.not_a_state"),
        (the_manifest_is_of_the_future, "backup.format"),
        (the_database_was_bad_already, "backup.database_damaged"),
    ],
)
def test_whatever_differs_from_the_manifest_is_found(
    state: StateDirectory, harm: Callable[[Path], None], code: str
) -> None:
    with stage(state.paths, instance="i", version="1") as root:
        prove_state(root, referenced=named_blobs)
        # The staged blobs are links into the live store: part with them before harming one.
        for _, path in list(blob_files(root / "blobs")):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        harm(root)
        with pytest.raises(IntegrityFailure) as caught:
            prove_state(root)
    assert caught.value.code == code


def test_a_blob_of_the_right_size_and_wrong_content_is_found(state: StateDirectory) -> None:
    with stage(state.paths, instance="i", version="1") as root:
        digest, path = next(blob_files(root / "blobs"))
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.unlink()
        path.write_bytes(content)
        with pytest.raises(IntegrityFailure) as caught:
            prove_state(root)
    assert caught.value.code == "backup.blob_damaged"
    assert digest in caught.value.message


def test_a_database_that_names_an_absent_blob_is_found(state: StateDirectory) -> None:
    with closing(state.connect()) as connection:
        connection.execute("INSERT INTO model VALUES (?)", ("f" * 64,))
    with stage(state.paths, instance="i", version="1") as root:
        prove_state(root)
        with pytest.raises(IntegrityFailure) as caught:
            prove_state(root, referenced=named_blobs)
    assert caught.value.code == "backup.missing_blob"


def test_the_manifest_tells_when_and_what(state: StateDirectory) -> None:
    with stage(state.paths, instance="i", version="1", clock=lambda: NOW) as root:
        assert read_manifest(root).at == "2026-08-01T10:00:00.000000Z"
