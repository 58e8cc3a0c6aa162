"""Restore an appliance's state and prove it, with nothing but the repository and its password file.

No running appliance is needed. The state appears under its name only after the database, every blob and every
other file matched the manifest; otherwise nothing is left. What comes back is stopped: run/ is absent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.backups import manifest as manifests
from appliance.backups import repository
from appliance.backups.manifest import CapturedFile, Manifest, blob_files, read_manifest, summarise_blobs
from appliance.backups.snapshot import Referenced, check_database, reading
from appliance.kernel.canonical import sha256_file
from appliance.kernel.clock import from_text
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntegrityFailure, storage_errors
from appliance.kernel.paths import StatePaths


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredState:
    """What was restored: `at` is the instant of the capture, `version` the product that made it; size in bytes."""

    target: Path
    snapshot: str
    instance: str
    version: str
    at: datetime
    blobs: int
    size: int


def restore_state(
    repo: Path,
    password_file: Path,
    snapshot: str,
    target: Path,
    *,
    referenced: Referenced | None = None,
) -> RestoredState:
    """Restore `snapshot` (an id, its beginning, or `latest`) as the state directory `target`, absent or empty.

    Raises IntegrityFailure when anything differs from the manifest, and the errors of `repository.restore`.
    """
    proven: list[Manifest] = []

    def prove(root: Path) -> None:
        with storage_errors("verifying the restored state"):
            captured = prove_state(root, referenced=referenced)
            _settle(StatePaths(root), password_file)
        proven.append(captured)

    found = repository.restore(repo, password_file, snapshot, target, accept=prove)
    [captured] = proven
    return RestoredState(
        target=target.absolute(),
        snapshot=found.id,
        instance=captured.instance,
        version=captured.version,
        at=from_text(captured.at),
        blobs=captured.blobs.count,
        size=captured.database.size + captured.blobs.size + sum(file.size for file in captured.files),
    )


def prove_state(root: Path, *, referenced: Referenced | None = None) -> Manifest:
    """Compare a restored, not yet settled tree with its manifest, to the last byte. Raises IntegrityFailure."""
    state = StatePaths(root)
    captured = read_manifest(state.root)
    _check_listing(state, captured)
    for file in (captured.database, *captured.files):
        _check_file(state.root, file)
    for digest, path in blob_files(state.blobs):
        if sha256_file(path) != digest:
            raise IntegrityFailure("backup.blob_damaged", f"The restored blob {digest} does not match its name.")
    check_database(state.database)
    if referenced is not None:
        with reading(state.database) as connection:
            missing = sorted(digest for digest in set(referenced(connection)) if not state.blob(digest).is_file())
        if missing:
            raise IntegrityFailure("backup.missing_blob", f"The restored database names {missing[0]}, which is absent.")
    return captured


def _check_listing(state: StatePaths, captured: Manifest) -> None:
    """Exactly the files of the manifest must be there, and nothing that is neither file nor directory."""
    blobs = {path: digest for digest, path in blob_files(state.blobs)}
    listed = {manifests.NAME, captured.database.path, *(file.path for file in captured.files)}
    if captured.database.path != state.database.name:
        raise IntegrityFailure("backup.incomplete", "The manifest of the snapshot names another database.")
    found: set[str] = set()
    for path in state.root.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityFailure("backup.unexpected", f"The snapshot holds {path.name}, which is not a plain file.")
        if path.is_file() and path not in blobs:
            found.add(str(path.relative_to(state.root)))
    if found != listed:
        name = min(found ^ listed)
        what = "lacks" if name in listed else "holds the unlisted file"
        raise IntegrityFailure("backup.incomplete", f"The snapshot {what} {name}.")
    if summarise_blobs((digest, path.stat().st_size) for path, digest in blobs.items()) != captured.blobs:
        raise IntegrityFailure(
            "backup.incomplete",
            f"The snapshot holds {len(blobs)} blobs; its manifest lists {captured.blobs.count}, or others.",
        )


def _check_file(root: Path, file: CapturedFile) -> None:
    if sha256_file(root / file.path) != file.digest:
        raise IntegrityFailure(
            "backup.file_damaged", f"The restored file {file.path} does not match the digest in the manifest."
        )


def _settle(state: StatePaths, password_file: Path) -> None:
    """Give the tree the modes of a live state, and the password with which it goes on making backups."""
    (state.root / manifests.NAME).unlink()
    state.root.chmod(0o700)
    state.database.chmod(0o600)
    for _, path in blob_files(state.blobs):
        path.chmod(0o444)
    state.secrets.mkdir(exist_ok=True)
    for path in (state.secrets, *state.secrets.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    write_file(state.backup_password, password_file.read_bytes(), mode=0o600)
    if os.geteuid() == 0:
        # restic gave its files back to their owner; what was made here must belong to the same user.
        owner = state.database.stat()
        for path in (state.root, state.secrets, state.backup_password):
            os.chown(path, owner.st_uid, owner.st_gid)
