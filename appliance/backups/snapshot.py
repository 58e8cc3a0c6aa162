"""A consistent capture of a state directory while the daemon goes on writing.

The invariant: every blob that the captured database names is in the capture. The store adds a blob before the row
that names it and removes it after that row is gone, and the database copy is one instant T between two passes over
the blobs:

    pass 1      keeps (by hard link) every blob that exists before T, even when it is removed a moment later;
    database    copied as of T;
    pass 2      adds the blobs that came between pass 1 and T.

A row seen at T names a blob that existed at T, so either pass caught it, unless it was added after pass 1 and
removed again before pass 2 reached it. `referenced` closes that last gap: the copy itself is asked what it names,
and the capture is repeated until nothing is missing.

The database file is only ever read through SQLite: opening and closing it by hand would drop the daemon's locks.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from appliance.backups import manifest as manifests
from appliance.backups.manifest import CapturedFile, Manifest, blob_files, summarise_blobs
from appliance.backups.scratch import remove_leftover, scratch_directory
from appliance.kernel.canonical import canonical_json, sha256_file
from appliance.kernel.clock import Clock, to_text, utc_now
from appliance.kernel.errors import IntegrityFailure, NotFound, StorageFailure, storage_errors
from appliance.kernel.paths import StatePaths

Referenced = Callable[[sqlite3.Connection], Iterable[str]]
"""Returns the digests of all blobs that a database names."""

_ATTEMPTS = 3
_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


@contextmanager
def stage(
    paths: StatePaths,
    *,
    instance: str,
    version: str,
    referenced: Referenced | None = None,
    changed_since: float = 0.0,
    clock: Clock = utc_now,
) -> Iterator[Path]:
    """Yield a directory laid out as the state directory, with `backup.json`; it is removed at exit.

    It holds the database, settings, gates, tls/, secrets/ without the backup password, and blobs/; not jobs/, logs/,
    run/ and backups/. Blobs that were written after `changed_since` (seconds since the epoch) are compared with their
    digests, because a restore refuses a snapshot that holds a single wrong one.

    Raises Unavailable (`backup.busy`), NotFound (`backup.no_state`), IntegrityFailure or StorageFailure.
    """
    if not paths.database.is_file():
        raise NotFound("backup.no_state", f"There is no appliance state in {paths.root}.")
    with scratch_directory(_staging(paths)) as root:
        with storage_errors("staging the backup"):
            _capture(paths, StatePaths(root), instance=instance, version=version, referenced=referenced, clock=clock)
            _check_blobs(StatePaths(root), changed_since)
        yield root


def remove_leftovers(paths: StatePaths) -> bool:
    """Remove the staging directory of a killed backup; True when there was one. For the daemon's start."""
    return remove_leftover(_staging(paths))


def check_database(database: Path) -> None:
    """Run SQLite's integrity check on a database that nobody writes. Raises IntegrityFailure."""
    with reading(database) as connection:
        try:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
        except sqlite3.DatabaseError as error:
            found = [str(error)]
    if found != ["ok"]:
        raise IntegrityFailure(
            "backup.database_damaged",
            f"The database {database.name} fails its integrity check: {found[0]}.",
            hint="Do not overwrite older backups; restore the newest one that verifies.",
        )


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that nobody writes, without leaving any file beside it."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        yield connection


def _staging(paths: StatePaths) -> Path:
    # Always the same name: restic finds the snapshot before by path, and reads only what changed since.
    return paths.root / "staging"


def _capture(
    paths: StatePaths,
    staged: StatePaths,
    *,
    instance: str,
    version: str,
    referenced: Referenced | None,
    clock: Clock,
) -> None:
    for _ in range(_ATTEMPTS):
        staged.database.unlink(missing_ok=True)
        _link_blobs(paths, staged)
        at = to_text(clock())
        _copy_database(paths.database, staged.database)
        check_database(staged.database)
        _link_blobs(paths, staged)
        missing = _missing(staged, referenced)
        if not missing:
            break
    else:
        raise IntegrityFailure(
            "backup.missing_blob",
            f"{len(missing)} blobs that the database names are not in the store, the first is {missing[0]}.",
            hint="The state directory is damaged; older backups still hold these blobs.",
        )
    _copy_small_files(paths, staged)
    captured = Manifest(
        format=manifests.FORMAT,
        version=version,
        instance=instance,
        at=at,
        database=_captured(staged.database, staged.root),
        files=tuple(_captured(path, staged.root) for path in _small_files(staged)),
        blobs=summarise_blobs((digest, path.stat().st_size) for digest, path in blob_files(staged.blobs)),
    )
    (staged.root / manifests.NAME).write_bytes(canonical_json(msgspec.to_builtins(captured)) + b"\n")


def _link_blobs(paths: StatePaths, staged: StatePaths) -> None:
    """Link every blob that is not staged yet. One that vanishes meanwhile is passed over (see the invariant)."""
    for digest, source in blob_files(paths.blobs):
        target = staged.blob(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except (FileExistsError, FileNotFoundError):
            continue
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            shutil.copy2(source, target)


def _check_blobs(staged: StatePaths, changed_since: float) -> None:
    for digest, path in blob_files(staged.blobs):
        if path.stat().st_mtime >= changed_since and sha256_file(path) != digest:
            raise IntegrityFailure(
                "backup.blob_damaged",
                f"The blob {digest} has changed on the disk; a backup that holds it could not be restored.",
                hint="Import the same file again, or take it from an older backup; then check the disk.",
            )


def _copy_database(source: Path, target: Path) -> None:
    """Copy all pages in one step of SQLite's backup API: one instant, and under WAL no writer waits."""
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as reader,
            closing(sqlite3.connect(target)) as writer,
        ):
            reader.backup(writer)
    except sqlite3.DatabaseError as error:
        raise _copy_failure(error, source) from error
    target.chmod(0o600)


def _copy_failure(error: sqlite3.DatabaseError, source: Path) -> IntegrityFailure | StorageFailure:
    match error.sqlite_errorcode & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return IntegrityFailure("backup.database_damaged", f"The database {source} cannot be copied: {error}.")
        case sqlite3.SQLITE_FULL:
            return StorageFailure(
                "backup.disk_full",
                f"The disk was full while the database {source} was copied.",
                hint="Free some space and run the same command again; nothing was half-done.",
            )
        case _:
            return StorageFailure("storage.io", f"The database {source} cannot be copied: {error}.")


def _missing(staged: StatePaths, referenced: Referenced | None) -> list[str]:
    if referenced is None:
        return []
    with reading(staged.database) as connection:
        return sorted(digest for digest in set(referenced(connection)) if not staged.blob(digest).is_file())


def _copy_small_files(paths: StatePaths, staged: StatePaths) -> None:
    """Copy, not link: these may be rewritten in place while restic reads."""
    for source in _small_files(paths):
        target = staged.root / source.relative_to(paths.root)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _small_files(state: StatePaths) -> list[Path]:
    """Return everything beside database and blobs that belongs into a backup, sorted."""
    candidates = [state.gates, state.settings, *state.tls.rglob("*"), *state.secrets.rglob("*")]
    return sorted(
        path for path in candidates if path.is_file() and path != state.backup_password and not _is_temporary(path.name)
    )


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _captured(path: Path, root: Path) -> CapturedFile:
    return CapturedFile(path=str(path.relative_to(root)), digest=sha256_file(path), size=path.stat().st_size)
