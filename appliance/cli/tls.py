"""`intramuros tls …`: the certificates of a box. Works on files, as root, without a running appliance."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.access import client_certificates as clients
from appliance.access.box_tls import import_provided, read_config, renew, show
from appliance.cli.session import Session, verb
from appliance.kernel.terminal import table


@click.group()
def tls() -> None:
    """Show, renew, import and revoke certificates of a box."""


@tls.command("show")
@verb
def show_(session: Session) -> None:
    """Show what the gateway proves itself with, and the authority that clients must trust."""
    view = show(read_config(session.paths.box_tls))
    lines = [
        f"{view.mode}  {view.subject}",
        f"  issued by    {view.issuer}",
        f"  names        {', '.join(view.names)}",
        f"  valid        {view.not_before} to {view.not_after} ({view.days_left} days left)",
        f"  fingerprint  {view.fingerprint}",
        f"  authority    {view.authority_file}, until {view.authority_not_after}",
        f"               {view.authority_fingerprint}",
        *(f"  attention    {text}" for text in view.attention),
    ]
    session.show(view, lambda: "\n".join(lines))


@tls.command("renew")
@click.option("--force", is_flag=True, help="Issue a new certificate although the present one is good.")
@verb
def renew_(session: Session, force: bool) -> None:
    """Renew the certificate and the revocation list where it is time; the gateway takes them up by itself."""
    box = read_config(session.paths.box_tls)
    changed = renew(box, force=force)
    if box.folder.authority_certificate.exists():
        changed = clients.publish_revocations(box, force=force) or changed
    view = show(box)
    session.show(
        {"changed": changed, "not_after": view.not_after},
        lambda: f"{'renewed' if changed else 'nothing to do'}: valid until {view.not_after}",
    )


@tls.command("import")
@click.option("--certificate", type=click.Path(path_type=Path), required=True, help="The server's certificate (PEM).")
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Its private key (PEM, mode 0600).")
@click.option("--chain", type=click.Path(path_type=Path), help="Its issuers (PEM), the root last.")
@verb
def import_(session: Session, certificate: Path, key: Path, chain: Path | None) -> None:
    """Take a certificate of your own authority. Needs mode = "provided"."""
    changed = import_provided(read_config(session.paths.box_tls), certificate=certificate, key=key, chain=chain)
    session.show({"changed": changed}, lambda: "imported" if changed else "it is in use already")


@tls.command("client")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File for key and certificate (0600).")
@verb
def client(session: Session, name: str, out: Path) -> None:
    """Issue a client's certificate."""
    entry = clients.issue_client(read_config(session.paths.box_tls), name, out)
    session.show(entry, lambda: f"{entry.name} may show {out} until {entry.not_after}")


@tls.command("clients")
@verb
def clients_(session: Session) -> None:
    """List every client certificate that was issued."""
    found = clients.read_register(read_config(session.paths.box_tls))
    session.show(
        found,
        lambda: table(
            ("CLIENT", "UNTIL", "REVOKED", "SERIAL"),
            [(entry.name, entry.not_after, entry.revoked_at or "-", entry.serial) for entry in found],
            empty="No client certificate was issued.",
        ),
    )


@tls.command("revoke")
@click.argument("name")
@verb
def revoke(session: Session, name: str) -> None:
    """Revoke a client's certificates; the gateway refuses them within seconds."""
    gone = clients.revoke_client(read_config(session.paths.box_tls), name)
    session.show(gone, lambda: f"{len(gone)} certificate(s) of {name} count no longer")
