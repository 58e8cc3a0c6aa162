"""`intramuros approver …`: people whose signature counts as an approval."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.access.approvals import create_approver_key, public_key_of
from appliance.api import calls
from appliance.api import types as t
from appliance.cli.session import Session, verb
from appliance.kernel.terminal import table, when


@click.group()
def approver() -> None:
    """Make and enrol approvers' keys."""


@approver.command()
@click.argument("name")
@click.option("--key", "key_file", required=True, type=click.Path(path_type=Path), help="Private key; made if absent.")
@verb
def add(session: Session, name: str, key_file: Path) -> None:
    """Enrol an approver. The private key file stays with that person."""
    public = public_key_of(key_file) if key_file.exists() else create_approver_key(key_file)
    view = session.send(calls.enrol_approver(t.EnrolApprover(name=name, public_key=public)))
    session.show(view, lambda: f"{view.name} is enrolled with key {view.public_key}")


@approver.command("list")
@verb
def list_(session: Session) -> None:
    """List the enrolled approvers."""
    found = session.send(calls.approvers())
    session.show(
        found,
        lambda: table(
            ("APPROVER", "PUBLIC KEY", "ADDED", "BY"),
            [(item.name, item.public_key, when(item.added_at), item.added_by) for item in found],
            empty="No approvers are enrolled. Add one with `intramuros approver add NAME --key FILE`.",
        ),
    )
