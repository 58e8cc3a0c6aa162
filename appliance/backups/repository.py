"""A restic repository in a local directory: create, list, verify and restore snapshots of a directory.

Knows nothing of what is in the directory. The password is a file, never an argument. Nothing half-done stays: a
snapshot that lacks a file is forgotten, a restore that fails leaves no target. Written for restic 0.14 (Debian 12).
"""

from __future__ import annotations

import json
import secrets
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.backups.restic_errors import failure, is_locked
from appliance.backups.scratch import scratch_directory
from appliance.kernel.clock import new_id
from appliance.kernel.durable import publish_directory, write_file
from appliance.kernel.errors import BadInput, Conflict, NotFound, storage_errors
from appliance.kernel.process import Outcome, run

LATEST = "latest"
_SHORT = 600.0
_LONG = 7 * 24 * 3600.0
_LISTED = 1000
_PARTIAL = 3
"""restic's exit status for a snapshot that was saved although a file could not be read"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot. `size` (bytes) and `files` count what was given, before deduplication; `at` is aware UTC."""

    id: str
    at: datetime
    size: int
    files: int
    host: str
    tags: tuple[str, ...] = ()


def initialise(repo: Path, password_file: Path) -> None:
    """Create the repository, and its password (256 random bits, mode 0600), unless they exist; then check them.

    Raises NotFound (`backup.no_password`) for an existing repository whose password file is gone.
    """
    exists = (repo / "config").exists()
    if not password_file.exists() and not exists:
        with storage_errors("writing the backup password"):
            password_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(password_file, secrets.token_hex(32).encode() + b"\n", mode=0o600)
    _check_private(password_file)
    if exists:
        _restic(repo, password_file, ["cat", "config"])
        return
    with storage_errors("creating the backup repository"):
        repo.mkdir(mode=0o700, parents=True, exist_ok=True)
    _restic(repo, password_file, ["init"])


def create(
    repo: Path, password_file: Path, root: Path, includes: Sequence[str] = (".",), tags: Sequence[str] = ()
) -> Snapshot:
    """Save `includes` (paths relative to `root`) as a snapshot whose paths are relative to `root`."""
    if any("," in tag or "=" in tag or not tag for tag in tags):
        raise BadInput("backup.tag", "A backup tag must not be empty or contain a comma or an equals sign.")
    _check_private(password_file)
    files, size = _measure(root, includes)
    # restic 0.14 does not keep totals with a snapshot, and its summary comes last in an output that we bound:
    # a tag carries the totals, another finds the snapshot again.
    mark = f"run={new_id()}"
    marks = [mark, f"files={files}", f"size={size}", *tags]
    # Staging by hard link changes the ctime of unchanged files; without the flag all of them would be read again.
    arguments = ["backup", "--ignore-ctime", *(f"--tag={tag}" for tag in marks), "--", *includes]
    outcome = _restic(repo, password_file, arguments, directory=root, timeout=_LONG, accept=(0, _PARTIAL))
    found = _snapshots(repo, password_file, f"--tag={mark}")
    if outcome.status == _PARTIAL:
        for snapshot in found:
            _restic(repo, password_file, ["forget", snapshot.id])
        raise Conflict(
            "backup.source_changed",
            f"Some files below {root} could not be read, and the incomplete snapshot was dropped.",
            hint="Run the backup again; if it fails again, check the disk.",
        )
    return found[0]


def list_snapshots(repo: Path, password_file: Path) -> tuple[Snapshot, ...]:
    """Return the snapshots, newest first; beyond a thousand only the newest ones."""
    return _snapshots(repo, password_file)


def find_snapshot(repo: Path, password_file: Path, wanted: str) -> Snapshot:
    """Return the newest snapshot (`latest`) or the one whose id begins with `wanted`. Raises NotFound."""
    snapshots = list_snapshots(repo, password_file)
    if wanted == LATEST and snapshots:
        return snapshots[0]
    found = [snapshot for snapshot in snapshots if wanted and snapshot.id.startswith(wanted)]
    if len(found) != 1:
        problem = f"{len(found)} snapshots begin with {wanted}" if found else f"There is no snapshot {wanted}"
        raise NotFound(
            "backup.no_snapshot", f"{problem} in {repo}.", hint="List the snapshots and give a longer or another id."
        )
    return found[0]


def verify(repo: Path, password_file: Path) -> None:
    """Read every byte of the repository and compare it with its digest. Raises IntegrityFailure."""
    _restic(repo, password_file, ["check", "--read-data"], timeout=_LONG)


def restore(
    repo: Path,
    password_file: Path,
    snapshot: str,
    target: Path,
    *,
    accept: Callable[[Path], None] | None = None,
) -> Snapshot:
    """Restore into `target`, which must be absent or empty; it appears whole, in one rename, or not at all.

    `accept` sees the restored tree under its temporary name, a sibling of `target`; what it raises undoes everything.
    """
    target = target.absolute()
    _check_target(target)
    found = find_snapshot(repo, password_file, snapshot)
    with storage_errors("preparing the restore"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory(target.with_name(f".{target.name}.restoring")) as temporary:
        _restic(repo, password_file, ["restore", found.id, "--target", str(temporary)], timeout=_LONG)
        if accept is not None:
            accept(temporary)
        _check_target(target)
        with storage_errors("publishing the restored directory"):
            publish_directory(temporary, target)
    return found


def _restic(
    repo: Path,
    password_file: Path,
    arguments: Sequence[str],
    *,
    directory: Path | None = None,
    timeout: float = _SHORT,
    accept: Sequence[int] = (0,),
) -> Outcome:
    """Run restic once, and once more when only locks of dead processes stood in the way."""
    if shutil.which("restic") is None:
        raise NotFound("backup.no_restic", "The program restic is not installed.", hint="Run: apt install restic")
    if not password_file.is_file():
        raise NotFound(
            "backup.no_password",
            f"The backup password file {password_file} is missing.",
            hint="Bring it back from where you keep it; without it the backups cannot be read.",
        )
    options = [
        "--repo",
        str(repo.absolute()),
        "--password-file",
        str(password_file.absolute()),
        "--no-cache",
        "--json",
    ]
    # An orphaned restic would go on to snapshot a staging directory that the restarted daemon is clearing.
    leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    quiet = {"RESTIC_PROGRESS_FPS": "0.01"}

    def attempt(command: Sequence[str]) -> Outcome:
        argv = [*leash, "restic", *options, *command]
        return run(argv, timeout=timeout, extra_environment=quiet, directory=directory)

    outcome = attempt(arguments)
    if outcome.status not in accept and is_locked(outcome):
        attempt(["unlock"])
        outcome = attempt(arguments)
    if outcome.status not in accept:
        raise failure(outcome, repo=repo, verb=arguments[0])
    return outcome


def _snapshots(repo: Path, password_file: Path, *selection: str) -> tuple[Snapshot, ...]:
    """Return snapshots, newest first. Read without a lock, so never blocked."""
    # At most this many, because the output of a program is bounded (about 500 bytes each).
    arguments = ["snapshots", "--no-lock", f"--latest={_LISTED}", *selection]
    listed: list[dict[str, Any]] | None = json.loads(_restic(repo, password_file, arguments).stdout)
    found = (_snapshot(document) for document in listed or [])
    return tuple(sorted(found, key=lambda snapshot: snapshot.at, reverse=True))


def _snapshot(document: dict[str, Any]) -> Snapshot:
    tags: list[str] = document.get("tags") or []
    figures = dict(tag.split("=", 1) for tag in tags if "=" in tag)
    return Snapshot(
        id=document["id"],
        at=datetime.fromisoformat(document["time"]).astimezone(UTC),
        size=int(figures.get("size", 0)),
        files=int(figures.get("files", 0)),
        host=document.get("hostname", ""),
        tags=tuple(tag for tag in tags if "=" not in tag),
    )


def _measure(root: Path, includes: Sequence[str]) -> tuple[int, int]:
    """Return the number of files and their bytes below the included paths."""
    sizes: list[int] = []
    with storage_errors("measuring what is to be backed up"):
        for include in includes:
            start = root / include
            if not start.exists():
                raise NotFound("backup.no_source", f"There is no {include} in {root}.")
            entries = start.rglob("*") if start.is_dir() else (start,)
            sizes.extend(entry.lstat().st_size for entry in entries if not entry.is_dir())
    return len(sizes), sum(sizes)


def _check_private(password_file: Path) -> None:
    if password_file.exists() and stat.S_IMODE(password_file.stat().st_mode) & 0o077:
        raise BadInput(
            "backup.password_mode",
            f"The backup password file {password_file} is open to others.",
            hint=f"Run: chmod 600 {password_file}",
        )


def _check_target(target: Path) -> None:
    if target.is_mount():
        raise Conflict(
            "backup.target_is_mount",
            f"{target} is a mount point, which cannot be replaced in one step.",
            hint="Give a directory below it.",
        )
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Conflict("backup.target_not_empty", f"{target} exists and is not a directory.")
    if target.exists() and any(target.iterdir()):
        raise Conflict(
            "backup.target_not_empty",
            f"The directory {target} is not empty; a restore never writes over data.",
            hint="Give a new directory, or move the old one away.",
        )
