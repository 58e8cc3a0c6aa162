"""A change of our own behind the lifeline: armed before, proven after, brought back when the proof fails."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from installer.harden import lifeline as lines
from installer.harden import probe as probes
from installer.harden.probe_source import choose_ports, choose_source, session_of_caller
from installer.harden.snapshot import Snapshot


@contextmanager
def guarded(*, admin: str, seconds: int, source: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Arm, run the block, prove a new login of `admin`, disarm. The old state comes back when anything fails."""
    home = Path(pwd.getpwnam(admin).pw_dir)
    lines.arm(admin=admin, home=home, seconds=seconds, now=datetime.now(UTC))
    try:
        yield
        proof = prove_login(admin=admin, port=probes.server_port(), source=source, networks=probes.own_networks())
    except BaseException:
        lines.restore()
        raise
    lines.disarm()
    tell(f"{proof.admin} logged in anew from {proof.source}; the change is final")


def prove_login(*, admin: str, port: int, source: str, networks: Sequence[str]) -> probes.Proof:
    """Prove a new login from the administrator's address. Raises Conflict, BadInput, InternalError."""
    lines.extend()
    session = session_of_caller(os.getpid())
    chosen = choose_source(configured=source, session=session, admin_networks=networks, own=probes.own_addresses())
    known = session is not None and session.client == chosen
    probe = probes.Probe(
        admin=admin,
        source=chosen,
        server=session.server if session is not None and known else probes.server_address(chosen),
        port=port,
        client_ports=choose_ports(probes.client_ports_of(port)),
    )
    return probes.prove(probe, now=datetime.now(UTC))


def account_to_prove(before: Snapshot | None, latest: lines.Lifeline | None) -> str:
    """Return whose login to prove when the state before a run comes back: root, unless the administrator was there."""
    admin = latest.record.admin if latest is not None else "root"
    keys = f"{pwd.getpwnam(admin).pw_dir}/.ssh/authorized_keys" if _exists(admin) else ""
    return admin if before is not None and keys in before.entries else "root"


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True
