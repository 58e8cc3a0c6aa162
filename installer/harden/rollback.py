"""Takes a hardening run back: exactly what it changed, and nothing that somebody changed since.

The plan is pure and can be printed. Carrying it out is repeatable: what is already as it was is left alone, so a killed
rollback is simply called again. What is overwritten although somebody changed it (`force`) is kept as a copy first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.durable import write_file
from appliance.kernel.errors import Conflict, InternalError, storage_errors
from installer.harden.changes import Change, PhaseChanges
from installer.harden.snapshot import TABLE, Entry, Run, entry_of, read_object, run_command, to_name

# Rewritten by tools whenever anything near them changes; nobody edits them, so they never stand in the way.
DERIVED = (
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/ld.so.cache",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/subgid-",
    "/etc/subuid-",
    "/var/lib/pam/seen",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rollback will do. `foreign` were changed by somebody else since; `done` are as they were already."""

    restore: tuple[Change, ...]
    foreign: tuple[Change, ...]
    done: int
    purge: tuple[str, ...]
    missing: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...]
    table: str | None
    table_changes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a rollback did; `left` are lines that name what is not as it was, and why."""

    restored: int
    purged: tuple[str, ...]
    kept: Path | None
    left: tuple[str, ...]


def plan_rollback(changes: PhaseChanges, now: Callable[[str], Entry | None]) -> Plan:
    """Return what has to be done; `now` tells what is at a path."""
    restore, foreign, done = [], [], 0
    for change in changes.files:
        present = now(change.path)
        if present == change.before:
            done += 1
        elif present == change.after or change.path in DERIVED:
            restore.append(change)
        else:
            foreign.append(change)
    return Plan(
        restore=tuple(restore),
        foreign=tuple(foreign),
        done=done,
        purge=changes.packages_added,
        missing=changes.packages_removed,
        parameters=tuple((each.name, each.before) for each in changes.parameters),
        table=changes.table_before,
        table_changes=changes.table_before != changes.table_after,
    )


def require_unchanged(plan: Plan, *, force: bool) -> None:
    """Refuse to overwrite what somebody changed since. Raises Conflict that names the first of them."""
    if plan.foreign and not force:
        named = ", ".join(change.path for change in plan.foreign[:5])
        more = f" and {len(plan.foreign) - 5} more" if len(plan.foreign) > 5 else ""
        raise Conflict(
            "harden.changed_since",
            f"Somebody changed these since the run: {named}{more}.",
            hint="Look at them; --force overwrites them and keeps copies.",
        )


def restore_files(plan: Plan, *, objects: Path, kept: Path, root: Path = Path("/")) -> int:
    """Bring the files back, folders first, what did not exist last. Returns how many were changed."""
    with storage_errors("bringing files back"):
        for change in plan.foreign:
            _keep_copy(root, change.path, kept)
        everything = [*plan.restore, *plan.foreign]
        existed = [change for change in everything if change.before is not None]
        for change in sorted(existed, key=lambda each: each.path):
            assert change.before is not None
            _put(_file(root, change.path), change.before, objects)
        for change in sorted(everything, key=lambda each: each.path, reverse=True):
            if change.before is None:
                _remove(_file(root, change.path))
    return len(everything)


def restore_runtime(plan: Plan, run: Run = run_command) -> list[str]:
    """Reload what reads the files. Returns a line for each thing that needs a reboot or an eye."""
    left = []
    for name, value in plan.parameters:
        if run(["sysctl", "-q", "-w", f"{name}={value}"]).status != 0:
            left.append(f"kernel parameter {name} goes back to {value!r} at the next boot")
    if plan.table_changes:
        left += _restore_table(plan.table, run)
    run(["systemctl", "daemon-reload"])
    if run(["sshd", "-t"]).status != 0:
        left.append("sshd does not accept the settings it had before the run")
    elif run(["systemctl", "reload-or-restart", "ssh.service"]).status != 0:
        left.append("the SSH server could not be told to read its settings again")
    return left


def purge_packages(plan: Plan, run: Run) -> tuple[tuple[str, ...], list[str]]:
    """Remove the packages that the run installed, with their settings. Returns them, and what could not be done."""
    left = [f"package {name} was removed by the run; install it again" for name in plan.missing]
    listed = run(["dpkg-query", "-W", "-f", "${binary:Package} ${db:Status-Status}\\n"])
    there = {line.split()[0] for line in listed.stdout.splitlines() if line and not line.endswith("not-installed")}
    names = tuple(name for name in plan.purge if name in there)
    if not names:
        return (), left
    purged = run(["dpkg", "--purge", *names])
    if purged.status != 0:
        lines = purged.stderr.strip().splitlines()
        left.append(f"some packages stay: {lines[-1] if lines else 'dpkg failed'}")
    return names, left


def verify(changes: PhaseChanges, now: Callable[[str], Entry | None]) -> list[str]:
    """Return the paths that are not as they were before the run."""
    return [
        f"{change.path} is not as it was"
        for change in changes.files
        if change.path not in DERIVED and now(change.path) != change.before
    ]


def present(root: Path = Path("/")) -> Callable[[str], Entry | None]:
    """Return what tells what is at a path now."""
    return lambda path: entry_of(_file(root, path))


def _file(root: Path, path: str) -> Path:
    return root / to_name(path).lstrip("/")


def _put(file: Path, entry: Entry, objects: Path) -> None:
    """Make the path what the entry says, in one step for files and links."""
    there = entry_of(file)
    if there == entry:
        return
    if there is not None and there.kind != entry.kind:
        _remove(file)
    elif there is not None and (there.digest, there.target) == (entry.digest, entry.target):
        _give(file, entry)  # the same file: its hard links, access lists and extended attributes stay
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if entry.kind == "folder":
        file.mkdir(exist_ok=True)
        _give(file, entry)
        return
    temporary = file.with_name(f".{file.name}.intramuros-rollback")
    temporary.unlink(missing_ok=True)
    if entry.kind == "link":
        temporary.symlink_to(to_name(entry.target))
    else:
        write_file(temporary, read_object(objects, entry.digest), mode=0o600)
    _give(temporary, entry)
    temporary.replace(file)


def _give(file: Path, entry: Entry) -> None:
    """Set owner, then mode: a new owner takes the set-user bit away."""
    os.chown(file, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind != "link":
        file.chmod(int(entry.mode, 8))


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        if any(file.iterdir()):  # somebody put something there that the run knew nothing of
            return
        file.rmdir()
    else:
        file.unlink(missing_ok=True)


def _keep_copy(root: Path, path: str, kept: Path) -> None:
    source = _file(root, path)
    if not source.exists() and not source.is_symlink():
        return
    target = _file(kept, path)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if source.is_dir() and not source.is_symlink():
        target.mkdir(exist_ok=True, mode=0o700)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _restore_table(table: str | None, run: Run) -> list[str]:
    name = " ".join(TABLE)
    if run(["nft", "list", "table", *TABLE]).status == 0 and run(["nft", "delete", "table", *TABLE]).status != 0:
        raise InternalError("harden.table", f"The nftables table {name} could not be removed.")
    if table is None:
        return []
    file = Path("/run/intramuros-table.nft")
    write_file(file, table.encode(), mode=0o600)
    try:
        if run(["nft", "-f", str(file)]).status != 0:
            return [f"the nftables table {name} could not be loaded as it was"]
    finally:
        file.unlink()
    return []
