"""Takes and checks backups while the appliance serves. Restoring needs no appliance: `intramuros backup restore`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from appliance.api import types as t
from appliance.backups import repository
from appliance.backups.repository import Snapshot
from appliance.backups.snapshot import stage
from appliance.kernel.clock import to_text
from appliance.kernel.errors import IntramurosError, NotFound
from appliance.services.context import Context
from appliance.services.version import product_version


def create(ctx: Context) -> t.BackupView:
    """Capture the state consistently and save it in the repository, which is created the first time."""
    ctx.authorise("backup.create", "state")
    repo, password = _repository(ctx), ctx.appliance.paths.backup_password
    with ctx.appliance.database.write() as connection:
        ctx.record(connection, "backup.create", str(repo), phase="intent")
    try:
        repository.initialise(repo, password)
        ctx.appliance.trail.sign_head(ctx.appliance.database)
        # What was not written since the newest snapshot, restic does not read again either.
        newest = next((found.at.timestamp() for found in repository.list_snapshots(repo, password)), 0.0)
        with stage(
            ctx.appliance.paths,
            instance=ctx.appliance.instance,
            version=product_version(),
            referenced=named_blobs,
            changed_since=newest,
        ) as staged:
            snapshot = repository.create(repo, password, staged)
    except IntramurosError as error:
        with ctx.appliance.database.write() as connection:
            ctx.record(connection, "backup.create", str(repo), phase="failed", code=error.code)
        raise
    with ctx.appliance.database.write() as connection:
        ctx.record(connection, "backup.create", str(repo), snapshot=snapshot.id, size=snapshot.size)
    return _view(snapshot)


def list_backups(ctx: Context) -> tuple[t.BackupView, ...]:
    """Return the snapshots, newest first."""
    repo, password = _repository(ctx), ctx.appliance.paths.backup_password
    if not (repo / "config").exists():
        return ()
    return tuple(_view(snapshot) for snapshot in repository.list_snapshots(repo, password))


def verify(ctx: Context) -> t.BackupView:
    """Read back every byte of the repository; answer with the newest snapshot."""
    ctx.authorise("backup.verify", "state")
    newest = list_backups(ctx)
    if not newest:
        raise NotFound("backup.none", "There is no backup yet.", hint="Take one with `intramuros backup create`.")
    repo = _repository(ctx)
    repository.verify(repo, ctx.appliance.paths.backup_password)
    with ctx.appliance.database.write() as connection:
        ctx.record(connection, "backup.verify", str(repo), snapshot=newest[0].id)
    return newest[0]


def named_blobs(connection: sqlite3.Connection) -> Iterable[str]:
    """Return every blob that a captured database names."""
    return [row[0] for row in connection.execute("SELECT digest FROM blobs")]


def _repository(ctx: Context) -> Path:
    chosen = ctx.appliance.settings.backup_repository
    return Path(chosen) if chosen else ctx.appliance.paths.backups


def _view(snapshot: Snapshot) -> t.BackupView:
    return t.BackupView(
        id=snapshot.id, at=to_text(snapshot.at), size=snapshot.size, files=snapshot.files, host=snapshot.host
    )
