"""Opens a state directory: creates it the first time, refuses one of a newer version, loads keys, sweeps leftovers."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
from sqlalchemy import func, insert, select

from appliance.access.tls import ensure_authority, ensure_leaf
from appliance.audit.signing_key import create_signing_key, load_signing_key
from appliance.catalog.blobs import BlobStore
from appliance.evaluation.gate import DEFAULT_GATES
from appliance.jobs.spec import TaskResult
from appliance.kernel.clock import continue_ids_after, new_id, to_text, utc_now
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, Conflict, storage_errors
from appliance.kernel.paths import StatePaths
from appliance.kernel.settings import Settings
from appliance.services.audit_trail import AuditTrail
from appliance.services.blob_references import known_digests
from appliance.services.context import Appliance
from appliance.services.machine import code_digest
from appliance.store.database import Database
from appliance.store.migrate import ensure_schema
from appliance.store.schema import campaigns, datasets, evaluations, jobs, meta, models, suites

_SOCKET_LIMIT = 107
_PRIVATE = 0o700


def lock_state(paths: StatePaths) -> int:
    """Make the directories and take the daemon's lock. Raises Conflict when another daemon holds it."""
    if len(os.fsencode(paths.gateway_socket)) > _SOCKET_LIMIT - 8:
        raise BadInput(
            "state.path_too_long",
            f"{paths.root} is too long a path: Unix sockets below it may have {_SOCKET_LIMIT} bytes at most.",
            hint="Choose a shorter state directory.",
        )
    with storage_errors(f"preparing {paths.root}"):
        paths.root.mkdir(parents=True, exist_ok=True)
        for folder in (paths.secrets, paths.run, paths.blobs, paths.jobs, paths.tls, paths.logs):
            folder.mkdir(mode=_PRIVATE, exist_ok=True)
        descriptor = os.open(paths.run / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(
            "state.in_use",
            f"Another intramurosd already runs on {paths.root}.",
            hint="Use it: `intramuros status`; or stop it: `intramuros down`.",
        ) from error
    return descriptor


def open_appliance(paths: StatePaths, settings: Settings) -> Appliance:
    """Open (or create) everything below the state directory. The caller holds the lock."""
    with storage_errors(f"opening {paths.root}"):
        ensure_schema(paths.database)
        os.chmod(paths.database, 0o600)  # noqa: PTH101 - the mode is the point
        database = Database(paths.database)
        instance = _instance(database)
        _continue_ids(database)
        if not paths.gates.exists():
            write_file(paths.gates, DEFAULT_GATES.encode())
        key = load_signing_key(paths.audit_key) if paths.audit_key.exists() else create_signing_key(paths.audit_key)
        if not settings.tls_file:  # a given certificate, or a box's, is nothing of ours to issue
            ensure_authority(paths)
            ensure_leaf(paths, () if settings.host in ("0.0.0.0", "::") else (settings.host,))  # noqa: S104
        blobs = BlobStore(paths.blobs)
        _sweep(paths, database, blobs)
    return Appliance(
        paths=paths,
        settings=settings,
        database=database,
        blobs=blobs,
        trail=AuditTrail(instance=instance, key=key, clock=utc_now, every=settings.audit_checkpoint_events),
        clock=utc_now,
        instance=instance,
        started_at=to_text(utc_now()),
        code_digest=code_digest(),
    )


def _instance(database: Database) -> str:
    """Return this appliance's own identifier; it keys the audit chain and the approvals."""
    with database.write() as connection:
        known = connection.execute(select(meta.c.value).where(meta.c.key == "instance")).scalar()
        if known is not None:
            return str(known)
        fresh = new_id()
        connection.execute(insert(meta).values(key="instance", value=fresh))
        return fresh


def _continue_ids(database: Database) -> None:
    """Let new ids sort behind all that are there: the order of jobs is that of their ids, and clocks are set back."""
    with database.read() as connection:
        for table in (jobs, campaigns, datasets, suites, models, evaluations):
            if (latest := connection.execute(select(func.max(table.c.id))).scalar()) is not None:
                continue_ids_after(latest)


def _sweep(paths: StatePaths, database: Database, blobs: BlobStore) -> None:
    """Remove temporary files, and blobs that neither a row nor a sealed result waiting for its adoption names."""
    blobs.clean()
    with database.read() as connection:
        known = set(known_digests(connection))
        unsettled = connection.execute(select(jobs.c.id).where(jobs.c.state == "running")).scalars().all()
    for job_id in unsettled:
        known |= _sealed_digests(paths.job(job_id) / "result.json")
    for digest in blobs.digests():
        if digest not in known:
            blobs.remove(digest)


def _sealed_digests(result: Path) -> set[str]:
    if not result.exists():
        return set()
    try:
        files = msgspec.json.decode(result.read_bytes(), type=TaskResult).files
    except (msgspec.DecodeError, UnicodeDecodeError):
        return set()  # nothing can be adopted from it; the job runner says so when it settles the job
    return {entry.digest for entry in files}
