"""`intramuros storage …`: the encrypted data volume, for the person at the box and for the playbooks.

Keys are typed without an echo or come from private files; none is an argument. What empties a slot asks for the
recovery key; what could lose data makes you type the volume's name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance.kernel.durable import fsync_directory
from appliance.kernel.errors import BadInput, Conflict, Forbidden
from appliance.kernel.private import write_private
from appliance.kernel.terminal import harmless, table
from installer import secrets as laid
from installer.password import require_passphrase
from installer.storage import header_backup, journal, recovery_key, rotation, setup, tang
from installer.storage.header import Purpose, read_header
from installer.storage.keyfiles import KeyFiles, given_secret, key_files
from installer.storage.proof import prove_recovery
from installer.storage.request import parse_request
from installer.storage.status import Status, look, volume_of
from installer.storage.table import read_table
from installer.storage.unlock import start_waiting
from installer.storage.unlock import unlock as open_by_key
from installer.storage.volume import Places, Volume, places_below
from installer.storage.volume_key import rotate_volume_key

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ROOT = click.option("--root", default="/", hidden=True, type=click.Path(path_type=Path), help="For tests.")
_RECOVERY = click.option(
    "--recovery-key-file", "recovery_file", type=click.Path(path_type=Path), help="Private file with the recovery key."
)


@click.group()
def storage() -> None:
    """Look after the encrypted data volume."""


@storage.command()
@click.option("--prove", is_flag=True, help="Ask TPM and Tang to open the volume; changes nothing.")
@_ROOT
@_JSON
def status(prove: bool, root: Path, as_json: bool) -> None:
    """Say whether the volume is open, what opens it, and what is to be done. Exit status 4 with alerts."""
    with _session(root, lock=False) as (places, volume, keys):
        found = look(volume, places, keys=keys if prove else None)
    _show(_status_document(found), _status_text(found), as_json=as_json)
    if found.alerts:
        sys.exit(Conflict.exit_code)


@storage.command()
@click.argument("what", type=click.Choice(["passphrase", "recovery", "tang", "volume-key"]))
@click.option("--tang", "servers", multiple=True, metavar="URL=THUMBPRINT", help="Tang server with its pinned key.")
@click.option(
    "--new-file", type=click.Path(path_type=Path), help="Private file with the new passphrase or recovery key."
)
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="Private file with the present passphrase.")
@_RECOVERY
@_ROOT
@_JSON
def rotate(
    what: str,
    servers: tuple[str, ...],
    new_file: Path | None,
    passphrase_file: Path | None,
    recovery_file: Path | None,
    root: Path,
    as_json: bool,
) -> None:
    """Replace one way in, or the key of the data itself. Interrupted, the same command goes on."""
    with _session(root) as (places, volume, keys):
        recovery = _recovery(keys, recovery_file)
        match what:
            case "passphrase":
                new = keys.put("new", _new_passphrase(new_file))
                slot = rotation.rotate_passphrase(volume, places, recovery=recovery, new=new)
                said = f"the new passphrase opens slot {slot.number}; the old one opens nothing"
            case "recovery":
                prove_recovery(volume.device, recovery)  # before a new key is shown
                new = keys.put("new", _new_recovery_key(new_file))
                slot = rotation.rotate_recovery(volume, places, recovery=recovery, new=new)
                said = f"the new recovery key opens slot {slot.number}; the old one opens nothing"
            case "tang":
                named = [tang.parse_server(text) for text in servers] or list(read_table(places.table).tang)
                slot = rotation.rotate_tang(volume, places, named, recovery=recovery, keys=keys)
                said = f"slot {slot.number} opens through {', '.join(server.url for server in named)}"
            case _:
                header = read_header(volume.device)
                needed = bool(header.of(Purpose.PASSPHRASE)) and not header.reencrypting
                secret = _secret("Present passphrase", passphrase_file) if needed else None
                passphrase = keys.put("passphrase", secret) if secret else None
                rotate_volume_key(volume, places, recovery=recovery, passphrase=passphrase, keys=keys)
                said = "all data is encrypted with a new volume key"
        _finish(places, volume, said, as_json=as_json)


@storage.command()
@_RECOVERY
@_ROOT
@_JSON
def reseal(recovery_file: Path | None, root: Path, as_json: bool) -> None:
    """Seal the TPM slot anew: after a change of firmware, of Secure Boot, or of the TPM itself."""
    with _session(root) as (places, volume, keys):
        slot = rotation.reseal(volume, places, recovery=_recovery(keys, recovery_file))
        _finish(places, volume, f"this box's TPM opens slot {slot.number}; proven", as_json=as_json)


@storage.command()
@click.option(
    "--prepare", type=click.Path(path_type=Path), help="Make a key for an unattended installation into this new file."
)
@_RECOVERY
@_ROOT
@_JSON
def recovery(prepare: Path | None, recovery_file: Path | None, root: Path, as_json: bool) -> None:
    """Check that the recovery key on paper opens the volume; changes nothing."""
    if prepare is not None:
        key = _prepare(prepare)
        said = f"the recovery key is in {key}: print it, then name the file in the answers"
        _show({"file": str(prepare)}, said, as_json=as_json)
        return
    with _session(root, lock=False) as (_, volume, keys):
        proof = prove_recovery(volume.device, _recovery(keys, recovery_file))
    _show({"slot": proof.slot, "uuid": proof.uuid}, f"the recovery key opens slot {proof.slot}", as_json=as_json)


@storage.command("backup-header")
@click.option("--to", "target", type=click.Path(path_type=Path), help="A new file outside the box's own disks.")
@click.option("--destroyed", help="Forget this copy: it was destroyed; a file of this name is overwritten and removed.")
@_ROOT
@_JSON
def backup_header(target: Path | None, destroyed: str | None, root: Path, as_json: bool) -> None:
    """Save the header, here or also elsewhere. Take it anew after each rotation and destroy the old one."""
    with _session(root) as (places, volume, _):
        if destroyed:
            copy = header_backup.forget(places, destroyed)
            _show(copy, f"forgot the copy of {copy.at[:19]} at {copy.path}", as_json=as_json)
            return
        copy = header_backup.carry_out(volume, places, target) if target else header_backup.refresh(volume, places)
    _show(copy, f"saved the header in {copy.path}, SHA-256 {copy.sha256}", as_json=as_json)


@storage.command("restore-header")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--name", "typed", help="The volume's name, instead of typing it.")
@_RECOVERY
@_ROOT
@_JSON
def restore_header(
    source: Path | None, typed: str | None, recovery_file: Path | None, root: Path, as_json: bool
) -> None:
    """Put a saved header back over a damaged one. SOURCE: a copy; default: the box's own."""
    with _session(root) as (places, volume, keys):
        chosen = source or places.header_backup
        header_backup.check_copy(chosen, read_table(places.table))
        _confirm(volume, f"The header of {volume.device} will be replaced by {chosen}.", typed)
        proof = header_backup.restore(volume, places, chosen, recovery=_recovery(keys, recovery_file))
        _finish(places, volume, f"the header is back, and the recovery key opens slot {proof.slot}", as_json=as_json)


@storage.command()
@click.option("--key-file", type=click.Path(path_type=Path), help="Private file with the passphrase or recovery key.")
@_ROOT
@_JSON
def unlock(key_file: Path | None, root: Path, as_json: bool) -> None:
    """Open the locked volume by passphrase or recovery key, mount it, and start what waited."""
    with _session(root) as (places, volume, keys):
        if volume.mapping(places).exists():
            start_waiting(volume)
            _show({"opened": "already"}, f"{volume.mount} is open", as_json=as_json)
            return
        purpose = open_by_key(volume, places, _secret("Passphrase or recovery key", key_file), keys)
        start_waiting(volume)
    _show({"opened": purpose}, f"{volume.mount} is open, by {purpose}; services are starting", as_json=as_json)


@storage.command(hidden=True)
@click.argument("half", type=click.Choice(["format", "slots"]))
@click.option("--secrets", "folder", required=True, type=click.Path(path_type=Path), help="Folder of the laid secrets.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@_ROOT
@_JSON
def ensure(half: str, folder: Path, dry_run: bool, root: Path, as_json: bool) -> None:
    """For the playbooks: make the volume what the request (JSON on standard input) says."""
    _as_root()
    request = parse_request(sys.stdin.buffer.read())
    places = places_below(root)
    volume = Volume(device=Path(request.device), mount=Path(request.mount))
    if dry_run:
        done = setup.foresee(volume, request, places)
    else:
        with journal.exclusively(places), key_files(places.run) as keys:
            given = _laid_secrets(folder, keys)
            if half == "format":
                done = setup.format_and_open(volume, request, places, given)
            else:
                done = setup.fill_slots(volume, request, places, given, keys)
    uuid = read_table(places.table).uuid if places.table.exists() else ""
    _show({"changed": bool(done), "done": done, "uuid": uuid}, "\n".join(done) or "nothing to do", as_json=as_json)


@contextmanager
def _session(root: Path, *, lock: bool = True) -> Iterator[tuple[Places, Volume, KeyFiles]]:
    """Give the places, the volume and a folder for keys; one command at a time unless it only reads."""
    _as_root()
    places = places_below(root)
    volume = volume_of(read_table(places.table), by_uuid=root / "dev/disk/by-uuid")
    with journal.exclusively(places) if lock else _unlocked(), key_files(places.run) as keys:
        yield places, volume, keys


@contextmanager
def _unlocked() -> Iterator[None]:
    yield


def _as_root() -> None:
    if os.geteuid() != 0:
        raise Forbidden("storage.root", "Only root may look at the data volume's keys.", hint="Run it again with sudo.")


def _laid_secrets(folder: Path, keys: KeyFiles) -> setup.Secrets:
    """Copy the secrets that the installer laid down, without the line break a text file ends with."""

    def taken(name: str, read: Callable[[str], str]) -> Path | None:
        file = folder / name
        return keys.put(name, read(given_secret(file))) if file.exists() else None

    return setup.Secrets(
        recovery=taken(laid.STORAGE_RECOVERY_KEY, recovery_key.normalise),
        passphrase=taken(laid.STORAGE_PASSPHRASE, str),
    )


def _recovery(keys: KeyFiles, file: Path | None) -> Path:
    return keys.put("recovery", recovery_key.normalise(_secret("Recovery key", file)))


def _secret(prompt: str, file: Path | None, *, twice: bool = False) -> str:
    if file is not None:
        return given_secret(file)
    if not sys.stdin.isatty():
        raise BadInput("storage.no_terminal", f"{prompt}: there is no terminal to ask on.", hint="Give a private file.")
    typed: str = click.prompt(prompt, hide_input=True, err=True, confirmation_prompt=twice)
    return typed


def _new_passphrase(file: Path | None) -> str:
    secret = _secret("New passphrase", file, twice=True)
    require_passphrase(secret)
    return secret


def _new_recovery_key(file: Path | None) -> str:
    if file is not None:
        return recovery_key.normalise(given_secret(file))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadInput(
            "storage.no_terminal", "A new recovery key is shown on a terminal only.", hint="Or give --new-file."
        )
    key = recovery_key.generate()
    recovery_key.confirm(key, _Terminal())
    return key


class _Terminal:
    """Shows the recovery key on standard error, once, and removes it from the screen before it asks."""

    def show(self, key: str) -> None:
        groups = key.split("-")
        click.echo("\nWrite this recovery key on paper. It is shown once.\n", err=True)
        for number, group in enumerate(groups, start=1):
            click.echo(f"  {number}  {group}", err=True)
        click.pause("\nWritten down? Then press a key; the screen is cleared and you type two groups back.", err=True)
        click.echo("\033[2J\033[3J\033[H", nl=False, err=True)

    def typed(self, group: int) -> str:
        answer: str = click.prompt(f"Group {group} of the recovery key", err=True)
        return answer


def _prepare(target: Path) -> Path:
    if target.exists():
        raise BadInput("storage.key_exists", f"{target} exists; a key overwrites nothing.")
    write_private(target, recovery_key.generate().encode() + b"\n")
    fsync_directory(target.absolute().parent)
    return target


def _confirm(volume: Volume, consequence: str, typed: str | None) -> None:
    if typed is None:
        if not sys.stdin.isatty():
            raise BadInput("storage.unconfirmed", consequence, hint=f"Confirm with --name {volume.name}")
        click.echo(harmless(consequence), err=True)
        typed = click.prompt(f"Type {volume.name} to go on", err=True)
    if typed != volume.name:
        raise BadInput("storage.unconfirmed", f"{typed!r} is not {volume.name}; nothing was changed.")


def _finish(places: Places, volume: Volume, said: str, *, as_json: bool) -> None:
    found = look(volume, places)
    _show(
        _status_document(found), "\n".join([said, *(f"! {alert.message}" for alert in found.alerts)]), as_json=as_json
    )


def _status_document(found: Status) -> dict[str, Any]:
    return {
        "state": found.state,
        "volume": found.table,
        "alerts": [{"code": alert.code, "message": alert.message} for alert in found.alerts],
        "opens": {str(number): works for number, works in found.opens.items()},
    }


def _status_text(found: Status) -> str:
    known = found.table
    rows = [
        (
            str(record.slot),
            record.purpose,
            record.since[:10],
            record.proven[:19].replace("T", " "),
            record.fingerprint,
            {True: "opens", False: "FAILS", None: ""}[found.opens.get(record.slot)],
        )
        for record in known.slots
    ]
    lines = [
        f"{known.mount}: {found.state}; volume {known.uuid} on {known.device}",
        table(("SLOT", "FOR", "SINCE", "LAST PROVEN", "FINGERPRINT", "NOW"), rows, empty="No slot is recorded."),
        *(f"header saved {copy.at[:19].replace('T', ' ')} in {copy.path}" for copy in known.copies),
        *(f"! {alert.message}" for alert in found.alerts),
    ]
    return "\n".join(lines)


def _show(document: Any, text: str, *, as_json: bool) -> None:
    print(msgspec.json.encode(document).decode() if as_json else harmless(text))
