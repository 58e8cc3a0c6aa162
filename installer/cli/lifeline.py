"""`intramuros lifeline …`: see, use or give up the way back that stands while a change is unproven.

`status`, `restore` and `disarm` are for people; `arm`, `extend` and `prove` are what the playbooks call.
"""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from appliance.kernel.errors import BadInput, IntramurosError, NotFound
from appliance.kernel.terminal import harmless
from installer.harden import lifeline as lines
from installer.harden.guard import prove_login


@click.group()
def lifeline() -> None:
    """See, use or give up the way back that stands while a change is unproven."""


@lifeline.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Say whether a lifeline is armed."""
    found = lines.latest()
    if found is None:
        raise NotFound("lifeline.none", "There is no lifeline on this machine.", hint="Nothing risky was ever changed.")
    _show(found, as_json=as_json)


@lifeline.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore(as_json: bool) -> None:
    """Bring the state before the unproven change back now."""
    _as_root()
    _show(lines.restore(), as_json=as_json)


@lifeline.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def disarm(as_json: bool) -> None:
    """Keep the change although nobody proved it. Only when you can log in anew, as you have just tried."""
    _as_root()
    _show(lines.disarm(), as_json=as_json)


@lifeline.command(hidden=True)
@click.option("--admin", required=True, help="Account whose login will be proven.")
@click.option("--seconds", default=180, show_default=True, help="When the old state comes back.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def arm(admin: str, seconds: int, as_json: bool) -> None:
    """Save the present state and start the timer that brings it back."""
    _as_root()
    home = Path(_account(admin).pw_dir)
    _show(lines.arm(admin=admin, home=home, seconds=seconds, now=datetime.now(UTC)), as_json=as_json)


@lifeline.command(hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def extend(as_json: bool) -> None:
    """Start the timer anew."""
    _as_root()
    _show(lines.extend(), as_json=as_json)


@lifeline.command(hidden=True)
@click.option("--port", default=22, show_default=True, help="Port of the SSH server.")
@click.option("--from", "source", default="", help="Address to prove from; default: yours.")
@click.option("--network", "networks", multiple=True, help="Network of administrators, for when yours is not known.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prove(port: int, source: str, networks: tuple[str, ...], as_json: bool) -> None:
    """Prove a new login and sudo, then disarm; bring the old state back when that fails."""
    _as_root()
    armed = lines.latest()
    if armed is None:
        raise NotFound("lifeline.none", "There is no lifeline on this machine.")
    try:
        proof = prove_login(admin=armed.record.admin, port=port, source=source, networks=networks)
    except IntramurosError:
        # The timer would do the same later; somebody is locked out until then.
        if armed.state is not lines.State.DISARMED:
            lines.restore()
        raise
    disarmed = lines.disarm()
    if as_json:
        print(msgspec.json.encode({"proof": proof, "lifeline": disarmed.record, "state": disarmed.state}).decode())
    else:
        print(f"{proof.admin} logged in anew from {proof.source} to {proof.server} and became root; disarmed")


def _show(found: lines.Lifeline, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"lifeline": found.record, "state": found.state}).decode())
        return
    record = found.record
    print(harmless(f"lifeline {record.id}: {found.state}; armed {record.at} for {record.admin}, {record.seconds} s"))


def _as_root() -> None:
    if os.geteuid() != 0:
        raise BadInput("lifeline.root", "Only root can change the lifeline.", hint="Run it again with sudo.")


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise NotFound("lifeline.no_account", f"There is no account {name} on this machine.") from error
