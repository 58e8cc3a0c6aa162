"""Changing the key that the data itself is encrypted with, while the volume stays in use.

cryptsetup moves the data area by area and keeps its progress in the header, so a power cut costs at most the area at
work. Every slot opens both keys meanwhile, so a restart in between still unlocks by passphrase, Tang or recovery key;
the TPM's secret cannot be read out, so its slot is emptied before and sealed anew at the end.
"""

from __future__ import annotations

import stat
from pathlib import Path

from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.errors import Conflict, StorageFailure
from installer.storage import cryptsetup, header_backup, journal, proof, slots, tang
from installer.storage.header import Header, Purpose, read_header
from installer.storage.keyfiles import KeyFiles
from installer.storage.table import read_table, recorded, write_table
from installer.storage.volume import Places, Volume


def rotate_volume_key(
    volume: Volume, places: Places, *, recovery: Path, passphrase: Path | None, keys: KeyFiles
) -> None:
    """Encrypt all data with a new volume key, or go on with that. `passphrase` is needed when there is such a slot."""
    proven = proof.prove_recovery(volume.device, recovery)
    header = read_header(volume.device)
    operation = journal.begin(places, "rotate volume-key", header)
    if not header.reencrypting and header.volume_key == operation.volume_key:
        for slot in header.of(Purpose.TPM2):
            slots.remove_slot(volume, slot, proof=proven)
        header = read_header(volume.device)
        answers = _keys_by_slot(volume, header, recovery=recovery, passphrase=passphrase)
        header_backup.withdraw(places)  # with the old volume key it would make all data unreadable
        cryptsetup.begin_reencryption(volume, answers)
    if read_header(volume.device).reencrypting:
        cryptsetup.continue_reencryption(volume, recovery, image=stat.S_ISREG(volume.device.stat().st_mode))
    _finish(volume, places, had_tpm=Purpose.TPM2.value in operation.purposes, recovery=recovery, keys=keys)


def _keys_by_slot(volume: Volume, header: Header, *, recovery: Path, passphrase: Path | None) -> list[bytes]:
    """Return the key of every slot in the order of their numbers. Raises Conflict when one cannot be had."""
    answers: list[bytes] = []
    for slot in header.slots:
        match slot.purpose:
            case Purpose.RECOVERY:
                key = recovery.read_bytes()
            case Purpose.TANG:
                key = tang.fetch(volume.device, slot)
            case Purpose.PASSPHRASE if passphrase is not None:
                key = passphrase.read_bytes()
            case Purpose.PASSPHRASE:
                raise Conflict(
                    "storage.passphrase_needed",
                    f"Slot {slot.number} holds a passphrase; the new volume key must go into it too.",
                    hint="Give the passphrase as well.",
                )
            case _:
                raise Conflict(
                    "storage.foreign_slot",
                    f"Slot {slot.number} ({slot.purpose}) was not made by this product, so its key is not known.",
                    hint=f"Empty it first: systemd-cryptenroll --wipe-slot={slot.number} {volume.device}",
                )
        answers.append(key)
    _check(volume, header, answers, (recovery, passphrase))
    return answers


def _check(volume: Volume, header: Header, answers: list[bytes], files: tuple[Path, Path | None]) -> None:
    recovery, passphrase = files
    for slot, key in zip(header.slots, answers, strict=True):
        file = recovery if slot.purpose is Purpose.RECOVERY else passphrase
        if (
            slot.purpose is not Purpose.TANG
            and file is not None
            and not cryptsetup.slot_opens(volume.device, slot.number, file)
        ):
            raise Conflict(
                "storage.slot_key",
                f"The given {slot.purpose} does not open slot {slot.number}, which is for a {slot.purpose}.",
                hint=f"Replace it first: intramuros storage rotate {slot.purpose}",
            )
        if b"\n" in key:
            raise Conflict("storage.slot_key", f"The key of slot {slot.number} has a line break.")


def _finish(volume: Volume, places: Places, *, had_tpm: bool, recovery: Path, keys: KeyFiles) -> None:
    if had_tpm and not read_header(volume.device).of(Purpose.TPM2):
        slots.add_tpm(volume, unlock=recovery)
    proven = proof.prove_recovery(volume.device, recovery)
    header = read_header(volume.device)
    for slot in header.of(Purpose.TANG):
        if not tang.opens(volume.device, slot, keys):
            raise StorageFailure("storage.tang_unproven", f"Slot {slot.number} no longer opens through Tang.")
    numbers = [slot.number for slot in header.slots if slot.purpose in (Purpose.TPM2, Purpose.TANG)]
    table = recorded(read_table(places.table), header, at=to_text(utc_now()), proven=(proven.slot, *numbers))
    write_table(places.table, table)
    header_backup.refresh(volume, places)
    journal.end(places)
