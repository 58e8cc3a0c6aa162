"""From an empty device to a volume with all its keyslots; run again, it does what is missing and nothing else.

Two halves, because the programs for TPM and Tang are installed in between: `format_and_open` and `fill_slots`. Until
the recovery key is proven, a random key in memory (the last slot) opens the volume; then that slot is emptied and the
volume is `ready`. A volume that was ever ready is never formatted by anything here.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.errors import Conflict, Forbidden, IntramurosError, NotFound, Unavailable
from appliance.kernel.private import write_private
from installer.storage import cryptsetup, device, header_backup, slots, tang, tpm
from installer.storage.header import Header, Purpose, read_header
from installer.storage.keyfiles import KeyFiles, discard, memory_folder
from installer.storage.proof import RecoveryProof, prove_passphrase, prove_recovery
from installer.storage.request import StorageRequest
from installer.storage.table import Table, read_table, recorded, write_table
from installer.storage.volume import BOOTSTRAP_SLOT, Places, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Key files that the set-up was given; none when the answer was not needed or is not there."""

    recovery: Path | None = None
    passphrase: Path | None = None


def format_and_open(
    volume: Volume,
    request: StorageRequest,
    places: Places,
    given: Secrets,
    *,
    images: bool = False,
    opened: Callable[[Volume, Path], None] | None = None,
) -> tuple[str, ...]:
    """Make sure that the volume is formatted, open and has a file system. Returns what was done."""
    done: list[str] = []
    table, header = _table(places), _header(volume.device)
    if table is None and header is not None and (proof := _adoptable(volume, given)) is not None:
        table = _adopt(volume, places, header, proof)
        done.append(f"adopted the volume {header.uuid} on {volume.device}")
    if table is not None and table.ready:
        _require_same(volume, table, header)
    elif header is None or not _same(table, header) or not _can_go_on(volume, places, header, given):
        _format(volume, request, places, ours=_same(table, header), images=images)
        done.append(f"formatted {volume.device}")
    mapping = volume.mapping(places)
    if not mapping.exists():
        (opened or cryptsetup.open_volume)(volume, _unlocker(volume, places, given))
        done.append(f"opened {volume.device}")
    if mapping.exists() and not device.file_system(mapping):
        device.make_file_system(mapping, request.filesystem)
        done.append(f"made an {request.filesystem} file system")
    return tuple(done)


def fill_slots(
    volume: Volume, request: StorageRequest, places: Places, given: Secrets, keys: KeyFiles
) -> tuple[str, ...]:
    """Fill the wanted slots that are empty, prove each, and end the set-up. Returns what was done."""
    table, header = read_table(places.table), read_header(volume.device)
    if table.ready and not missing(request, header):
        return ()
    unlock = _unlocker(volume, places, given)
    proof, done = _recovery(volume, given, unlock)
    proven = [proof.slot]
    for purpose in request.unlock:
        number, what = _fill(volume, Purpose(purpose), request, given, keys, places, unlock=unlock, proof=proof)
        proven.append(number)
        done += [what] if what else []
    done += _clear(volume, given, proof, ready=table.ready)
    finished = recorded(
        msgspec.structs.replace(table, ready=True, tang=request.tang_servers),
        read_header(volume.device),
        at=to_text(utc_now()),
        proven=proven,
    )
    write_table(places.table, finished)
    header_backup.refresh(volume, places)
    discard(places.bootstrap_key)
    return (*done, "saved the header")


def missing(request: StorageRequest, header: Header | None) -> tuple[Purpose, ...]:
    """Return the wanted purposes that no slot is for."""
    return tuple(purpose for purpose in request.wanted if header is None or not header.of(purpose))


def foresee(volume: Volume, request: StorageRequest, places: Places, *, images: bool = False) -> tuple[str, ...]:
    """Tell what a set-up would do, without doing it. Refuses what it would refuse."""
    table, header = _table(places), _header(volume.device)
    steps: list[str] = []
    if table is not None and table.ready:
        _require_same(volume, table, header)
    elif not _same(table, header):
        findings = device.inspect(volume.device, images=images)
        device.require_usable(volume.device, findings, wipe=request.wipe, named=request.device)
        header = None
    if table is None or not table.ready:
        steps.append(f"format {volume.device} and make an {request.filesystem} file system")
    steps += [f"fill a slot for {purpose}" for purpose in missing(request, header)]
    return tuple(steps)


def _format(volume: Volume, request: StorageRequest, places: Places, *, ours: bool, images: bool) -> None:
    if volume.mapping(places).exists():
        raise Conflict("storage.open", f"{volume.mapping(places)} is open; it is not formatted under somebody's feet.")
    findings = device.inspect(volume.device, images=images)
    # An interrupted set-up of ours had permission, and wrote what is there now. A disk's name proves nothing: after a
    # boot it may be another disk's.
    wipe = request.device if ours else request.wipe
    device.require_usable(volume.device, findings, wipe=wipe, named=request.device)
    memory_folder(places.run)
    number = str(uuid.uuid4())
    write_private(places.bootstrap_key, secrets.token_bytes(32))
    write_table(
        places.table,
        Table(uuid=number, device=str(volume.device), name=volume.name, mount=str(volume.mount), ready=False),
    )
    if findings.signatures:
        device.wipe_signatures(volume.device)
    cryptsetup.format_volume(volume, uuid=number, key_file=places.bootstrap_key)


def _same(table: Table | None, header: Header | None) -> bool:
    return table is not None and header is not None and table.uuid == header.uuid


def _can_go_on(volume: Volume, places: Places, header: Header, given: Secrets) -> bool:
    """Tell whether an unfinished volume still opens with something that we have; else nothing can be on it."""
    if volume.mapping(places).exists() or not header.of(Purpose.BOOTSTRAP):
        return True
    try:
        _unlocker(volume, places, given)
    except IntramurosError:
        return False
    return True


def _unlocker(volume: Volume, places: Places, given: Secrets) -> Path:
    """Return a key file that opens the volume. Raises Unavailable when none of what we have does."""
    key = places.bootstrap_key
    if key.exists() and read_header(volume.device).of(Purpose.BOOTSTRAP):
        if cryptsetup.slot_opens(volume.device, BOOTSTRAP_SLOT, key):
            return key
        discard(key)  # of another set-up
    for file, prove in ((given.recovery, prove_recovery), (given.passphrase, prove_passphrase)):
        if file is None:
            continue
        try:
            prove(volume.device, file)
        except (Forbidden, NotFound):
            continue
        return file
    raise Unavailable(
        "storage.closed",
        f"Nothing that was given opens {volume.device}.",
        hint="Unlock it first with `intramuros storage unlock`, or give the recovery key.",
    )


def _recovery(volume: Volume, given: Secrets, unlock: Path) -> tuple[RecoveryProof, list[str]]:
    """Prove the recovery key, filling its slot when no slot opens with it. Raises Conflict when none was given."""
    if given.recovery is None:
        raise Conflict(
            "storage.no_recovery_key",
            "No recovery key was given, and without a proven one no set-up ends.",
            hint="The wizard makes one; for an unattended installation: intramuros storage recovery --prepare FILE",
        )
    try:
        return prove_recovery(volume.device, given.recovery), []
    except (Forbidden, NotFound):
        slots.add_recovery(volume, unlock=unlock, new=given.recovery)
    return prove_recovery(volume.device, given.recovery), ["filled a slot for recovery"]


def _fill(
    volume: Volume,
    purpose: Purpose,
    request: StorageRequest,
    given: Secrets,
    keys: KeyFiles,
    places: Places,
    *,
    unlock: Path,
    proof: RecoveryProof,
) -> tuple[int, str]:
    """Make sure that a slot for `purpose` opens the volume; returns its number and what was done, if anything."""
    said = f"filled a slot for {purpose}"
    present = read_header(volume.device).of(purpose)
    match purpose:
        case Purpose.PASSPHRASE:
            if given.passphrase is None:
                raise Conflict("storage.no_passphrase", "No passphrase was given for the slot that wants one.")
            try:
                return prove_passphrase(volume.device, given.passphrase).number, ""
            except (Forbidden, NotFound):
                return slots.add_passphrase(volume, unlock=unlock, new=given.passphrase).number, said
        case Purpose.TPM2:
            if present and tpm.opens(volume.device):
                return present[0].number, ""
            for slot in present:
                slots.remove_slot(volume, slot, proof=proof)
            return slots.add_tpm(volume, unlock=unlock).number, said
        case _:
            for slot in present:
                if tang.opens(volume.device, slot, keys):
                    return slot.number, ""
            servers = request.tang_servers
            added = tang.add_tang(volume, servers, unlock=unlock, keys=keys, run_folder=places.run)
            return added.number, said


def _clear(volume: Volume, given: Secrets, proof: RecoveryProof, *, ready: bool) -> list[str]:
    """Empty the set-up's own slot, and in a first set-up whatever an interrupted run of it left behind."""
    header = read_header(volume.device)
    surplus = list(header.of(Purpose.BOOTSTRAP))
    if not ready:
        surplus += [slot for slot in header.of(Purpose.RECOVERY) if slot.number != proof.slot]
        surplus += [
            slot
            for slot in header.of(Purpose.PASSPHRASE)
            if given.passphrase is None or not cryptsetup.slot_opens(volume.device, slot.number, given.passphrase)
        ]
    for slot in surplus:
        slots.remove_slot(volume, slot, proof=proof)
    return [f"emptied slot {slot.number} ({slot.purpose})" for slot in surplus]


def _adoptable(volume: Volume, given: Secrets) -> RecoveryProof | None:
    """Return a proof when the device is a volume of ours whose recovery key was given: a box was set up anew."""
    if given.recovery is None:
        return None
    try:
        return prove_recovery(volume.device, given.recovery)
    except (Forbidden, NotFound):
        return None


def _adopt(volume: Volume, places: Places, header: Header, proof: RecoveryProof) -> Table:
    table = Table(uuid=header.uuid, device=str(volume.device), name=volume.name, mount=str(volume.mount), ready=True)
    table = recorded(table, header, at=to_text(utc_now()), proven=(proof.slot,))
    write_table(places.table, table)
    return table


def _require_same(volume: Volume, table: Table, header: Header | None) -> None:
    if header is None:
        raise Conflict(
            "storage.header_destroyed",
            f"The data volume {table.uuid} was on {volume.device}, and its header cannot be read any more.",
            hint="Bring the header back, do not format: intramuros storage restore-header",
        )
    if header.uuid != table.uuid:
        raise Conflict(
            "storage.other_volume",
            f"{volume.device} holds volume {header.uuid}, but this box's data volume is {table.uuid}.",
            hint="Name the right device in the answers, or put the right disk in.",
        )


def _table(places: Places) -> Table | None:
    try:
        return read_table(places.table)
    except NotFound:
        return None


def _header(path: Path) -> Header | None:
    try:
        return read_header(path)
    except NotFound:
        return None
