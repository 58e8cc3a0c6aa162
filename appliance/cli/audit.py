"""`intramuros audit …`."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.api import calls
from appliance.cli.session import Session, verb
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntegrityFailure, storage_errors
from appliance.kernel.terminal import table, when


@click.group()
def audit() -> None:
    """Read, verify and export the audit trail."""


@audit.command("list")
@click.option("--limit", default=50, show_default=True)
@click.option("--before", default=0, help="Only events older than this number.")
@click.option("--action", default="", help="Only actions that start with this.")
@verb
def list_(session: Session, limit: int, before: int, action: str) -> None:
    """List events, newest first."""
    page = session.send(calls.audit(before=before, limit=limit, action=action))
    session.show(
        page,
        lambda: table(
            ("SEQ", "AT", "ACTOR", "ACTION", "TARGET", "PHASE", "HASH"),
            [(str(e.seq), when(e.at), e.actor, e.action, e.target, e.phase, e.hash[:12]) for e in page.entries],
            empty="No events.",
        ),
    )


@audit.command()
@verb
def verify(session: Session) -> None:
    """Re-compute the whole chain and every signature."""
    verdict = session.send(calls.verify_audit())
    if not verdict.ok:
        raise IntegrityFailure("audit.broken", f"The audit trail does not verify: {verdict.problem}.")
    session.show(
        verdict,
        lambda: f"ok: {verdict.events} events, {verdict.checkpoints} signed checkpoints, head {verdict.head}",
    )


@audit.command()
@click.argument("target", type=click.Path(path_type=Path))
@verb
def export(session: Session, target: Path) -> None:
    """Write the whole trail as JSON lines, for `verify_audit.py`."""
    lines = session.send(calls.audit_export())
    with storage_errors("writing the audit export"):
        write_file(target.absolute(), "".join(f"{line}\n" for line in lines).encode(), mode=0o600)
    verifier = Path(__file__).parent.parent / "audit" / "verify_audit.py"
    session.show(
        {"file": str(target), "lines": len(lines), "verifier": str(verifier)},
        lambda: f"{len(lines)} lines in {target}; check it anywhere with: python3 {verifier} {target}",
    )
