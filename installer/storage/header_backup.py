"""Copies of the header: without one, a damaged header means that all data is lost; with an old one, a key that was
taken back opens the volume again. So there is one copy on this box, taken anew after each change, and every other one
is remembered in the table until somebody says that it was destroyed.

An old copy must never come back after the volume key has changed: the data would be unreadable. It is refused.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.durable import fsync_directory, fsync_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, storage_errors
from installer.storage import cryptsetup
from installer.storage.header import Header, read_header
from installer.storage.proof import RecoveryProof, prove_recovery
from installer.storage.table import HeaderCopy, Table, read_table, write_table
from installer.storage.volume import Places, Volume


def refresh(volume: Volume, places: Places) -> HeaderCopy:
    """Replace this box's copy by one of the header as it is now; the old one is overwritten, then gone."""
    with storage_errors("preparing the header's backup"):
        places.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = _save(volume, places.header_backup)
    _remember(places, copy)
    return copy


def carry_out(volume: Volume, places: Places, target: Path) -> HeaderCopy:
    """Save a copy to be kept elsewhere, under a name that does not exist yet. Raises BadInput."""
    if target.exists():
        raise BadInput("storage.backup_exists", f"{target} exists; a header's backup overwrites nothing.")
    if target.absolute().is_relative_to(volume.mount):
        raise BadInput(
            "storage.backup_inside",
            f"{target} lies on the volume itself, where nobody reads it when the header is damaged.",
            hint="Give a folder of another disk or of a stick.",
        )
    copy = _save(volume, target.absolute())
    _remember(places, copy)
    return copy


def forget(places: Places, path: str) -> HeaderCopy:
    """Take a copy out of the table, because it was destroyed; destroy it if it is here. Raises NotFound."""
    table = read_table(places.table)
    found = next((copy for copy in table.copies if copy.path == path), None)
    if found is None:
        raise NotFound("storage.no_copy", f"No copy of the header at {path} is known.")
    destroy(Path(path))
    write_table(
        places.table,
        msgspec.structs.replace(table, copies=tuple(copy for copy in table.copies if copy.path != path)),
    )
    return found


def withdraw(places: Places) -> None:
    """Destroy this box's copy and forget it: it is about to become dangerous."""
    destroy(places.header_backup)
    table, here = read_table(places.table), str(places.header_backup)
    kept = tuple(copy for copy in table.copies if copy.path != here)
    write_table(places.table, msgspec.structs.replace(table, copies=kept))


def outdated(table: Table, header: Header) -> tuple[HeaderCopy, ...]:
    """Return the copies that open with other slots than the volume does now."""
    return tuple(copy for copy in table.copies if copy.slots != digest_of_slots(header))


def digest_of_slots(header: Header) -> str:
    """Return one fingerprint of all slots."""
    return hashlib.sha256("\0".join(sorted(slot.fingerprint for slot in header.slots)).encode()).hexdigest()[:16]


def check_copy(source: Path, table: Table) -> Header:
    """Read a copy's header and refuse one of another volume or of an earlier volume key."""
    if not source.is_file():
        raise NotFound("storage.no_copy", f"There is no backup of the header at {source}.")
    try:
        header = read_header(source)
    except NotFound as error:
        raise IntegrityFailure("storage.copy_damaged", f"{source} is no LUKS2 header, or a damaged one.") from error
    if header.uuid != table.uuid:
        raise Conflict("storage.copy_foreign", f"{source} is the header of volume {header.uuid}, not of {table.uuid}.")
    if header.volume_key != table.volume_key:
        raise Conflict(
            "storage.copy_old_key",
            f"{source} was saved before the volume key changed: with it, all data would be unreadable.",
            hint="Use a copy that was saved since, and destroy this one.",
        )
    return header


def restore(volume: Volume, places: Places, source: Path, *, recovery: Path) -> RecoveryProof:
    """Put a copy back. The recovery key must open the copy beforehand, and the volume afterwards."""
    table = read_table(places.table)
    check_copy(source, table)
    prove_recovery(source, recovery)
    cryptsetup.restore_header(volume.device, source)
    return prove_recovery(volume.device, recovery)


def destroy(path: Path) -> None:
    """Overwrite a copy and remove it; none is no error. On flash memory old blocks may survive: rotate as well."""
    with storage_errors(f"destroying {path}"), suppress(FileNotFoundError):
        path.chmod(0o600)
        with path.open("r+b") as stream:
            left = path.stat().st_size
            while left > 0:
                left -= stream.write(os.urandom(min(left, 1 << 20)))
            stream.flush()
            os.fsync(stream.fileno())
        path.unlink()
        fsync_directory(path.parent)


def _save(volume: Volume, target: Path) -> HeaderCopy:
    header = read_header(volume.device)
    temporary, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    destroy(temporary)
    cryptsetup.back_up_header(volume.device, temporary)
    with storage_errors("saving the header's backup"):
        temporary.chmod(0o600)
        fsync_file(temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        destroy(old)  # of a command that was killed here
        with suppress(FileNotFoundError):
            target.rename(old)
        temporary.rename(target)
        fsync_directory(target.parent)
        destroy(old)
    return HeaderCopy(
        path=str(target),
        at=to_text(utc_now()),
        sha256=digest,
        slots=digest_of_slots(header),
        volume_key=header.volume_key,
    )


def _remember(places: Places, copy: HeaderCopy) -> None:
    table = read_table(places.table)
    others = tuple(each for each in table.copies if each.path != copy.path)
    write_table(places.table, msgspec.structs.replace(table, copies=(copy, *others)))
