"""`intramuros key …`: API keys of end users."""

from __future__ import annotations

import os
from pathlib import Path

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.session import Session, verb
from appliance.kernel.errors import BadInput, Conflict, storage_errors
from appliance.kernel.private import write_private
from appliance.kernel.terminal import table, when


@click.group()
def key() -> None:
    """Create, list and revoke API keys."""


@key.command()
@click.argument("name")
@click.option("--days", default=90, show_default=True, help="Life of the key; 0 = never expires.")
@click.option("--model", "models", multiple=True, help="Deployment it may use; repeat; none = all.")
@click.option(
    "--priority",
    type=click.Choice(t.PRIORITIES),
    default=t.PRIORITIES[0],
    show_default=True,
    help="Whose requests an engine serves first.",
)
@click.option("--share-group", default="", metavar="NAME", help="Share cached prompts with the keys of this group.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the secret to this file (0600).")
@verb
def create(
    session: Session,
    name: str,
    days: int,
    models: tuple[str, ...],
    priority: str,
    share_group: str,
    out: Path | None,
) -> None:
    """Create a key. Its secret is shown this once."""
    if out is not None and out.exists():
        raise Conflict("key.file_exists", f"{out} exists; a key file is never overwritten.", hint="Give a new name.")
    if out is not None and not os.access(out.absolute().parent, os.W_OK):
        raise BadInput(
            "key.file_place", f"{out} cannot be written; no key was created.", hint="Name a writable folder."
        )
    body = t.CreateKey(name=name, days=days, models=models, priority=priority, share_group=share_group)
    fresh = session.send(calls.create_key(body))
    if out is not None:
        with storage_errors("writing the key file"):
            write_private(out, fresh.secret.encode() + b"\n")
        session.show(fresh.key, lambda: f"key {fresh.key.id} written to {out}")
        return
    session.show(fresh, lambda: f"{fresh.secret}\n(key {fresh.key.id}; it is not shown again)")


@key.command("list")
@verb
def list_(session: Session) -> None:
    """List every key, without secrets."""
    found = session.send(calls.keys())
    session.show(
        found,
        lambda: table(
            ("KEY", "NAME", "CREATED", "EXPIRES", "REVOKED", "PRIORITY", "SHARES WITH", "DEPLOYMENTS"),
            [
                (
                    item.id,
                    item.name,
                    when(item.created_at),
                    when(item.expires_at) if item.expires_at else "never",
                    when(item.revoked_at),
                    item.priority,
                    item.share_group or "nobody",
                    ", ".join(item.models) or "all",
                )
                for item in found
            ],
            empty="No API keys yet. Make one with `intramuros key create NAME`.",
        ),
    )


@key.command()
@click.argument("id")
@verb
def revoke(session: Session, id: str) -> None:
    """Revoke a key at once."""
    view = session.send(calls.revoke_key(id))
    session.show(view, lambda: f"key {view.id} ({view.name}) is revoked")
