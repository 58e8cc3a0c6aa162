"""`intramuros backup …`. Restoring works without a running appliance: repository and password file are enough."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.api import calls
from appliance.cli.session import Session, verb
from appliance.kernel.terminal import size_text, table, when


@click.group()
def backup() -> None:
    """Take, verify and restore backups."""


@backup.command()
@verb
def create(session: Session) -> None:
    """Take a consistent backup while serving."""
    view = session.send(calls.create_backup())
    session.show(
        view,
        lambda: (
            f"snapshot {view.id[:12]}: {view.files} files, {size_text(view.size)}\n"
            f"Keep a copy of {session.paths.backup_password} elsewhere: without it the backup cannot be read."
        ),
    )


@backup.command("list")
@verb
def list_(session: Session) -> None:
    """List the snapshots, newest first."""
    found = session.send(calls.backups())
    session.show(
        found,
        lambda: table(
            ("SNAPSHOT", "AT", "FILES", "SIZE", "HOST"),
            [(item.id[:12], when(item.at), str(item.files), size_text(item.size), item.host) for item in found],
            empty="No backups yet. Take one with `intramuros backup create`.",
        ),
    )


@backup.command("verify")
@verb
def verify_(session: Session) -> None:
    """Read back and check every byte of the repository."""
    view = session.send(calls.verify_backup())
    session.show(view, lambda: f"the whole repository is good; newest snapshot {view.id[:12]} of {when(view.at)}")


@backup.command()
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="New state directory.")
@click.option("--snapshot", default="latest", show_default=True, help="Snapshot id, or latest.")
@click.option("--repository", type=click.Path(path_type=Path), help="Repository.  [default: backups/ in --state]")
@click.option("--password-file", type=click.Path(path_type=Path), help="Its password.  [default: from --state]")
@verb
def restore(session: Session, target: Path, snapshot: str, repository: Path | None, password_file: Path | None) -> None:
    """Restore a snapshot into a fresh directory, verified file by file; needs no running appliance."""
    from appliance.backups.restore import restore_state
    from appliance.services.backups import named_blobs

    session.say(f"restoring {snapshot} into {target}, checking every digest")
    restored = restore_state(
        (repository or session.paths.backups).absolute(),
        (password_file or session.paths.backup_password).absolute(),
        snapshot,
        target.absolute(),
        referenced=named_blobs,
    )
    document = {
        "target": str(restored.target),
        "snapshot": restored.snapshot,
        "at": restored.at.isoformat(),
        "blobs": restored.blobs,
        "size": restored.size,
    }
    session.show(
        document,
        lambda: (
            f"{restored.blobs} blobs, {size_text(restored.size)} restored from {restored.at:%Y-%m-%d %H:%M:%S} UTC\n"
            f"Start it with: intramuros up --state {target} --port 8444"
        ),
    )
