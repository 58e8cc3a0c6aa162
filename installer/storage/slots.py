"""Filling and emptying keyslots, and the one rule: nothing is emptied unless the recovery key was proven just now.

Whoever loses every other way in has the recovery key; so no command of ours may take a slot away from somebody whose
recovery key does not work, and would only find out afterwards.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.kernel.errors import Conflict, InternalError, NotFound, StorageFailure
from appliance.kernel.process import run
from installer.storage import cryptsetup, tpm
from installer.storage.header import Header, Purpose, Slot, read_header
from installer.storage.proof import RecoveryProof
from installer.storage.volume import Volume


def add_passphrase(volume: Volume, *, unlock: Path, new: Path) -> Slot:
    """Fill an empty slot with a typed passphrase, and prove it."""
    number = read_header(volume.device).free_slot()
    cryptsetup.add_key(volume, slot=number, unlock=unlock, new=new, cost=volume.cost.passphrase)
    return _proven(volume, number, new)


def add_recovery(volume: Volume, *, unlock: Path, new: Path) -> Slot:
    """Fill an empty slot with a recovery key, mark it as systemd-cryptenroll does, and prove it."""
    number = read_header(volume.device).free_slot()
    cryptsetup.add_key(volume, slot=number, unlock=unlock, new=new, cost=volume.cost.random)
    cryptsetup.import_token(volume, msgspec.json.encode({"type": "systemd-recovery", "keyslots": [str(number)]}))
    return _proven(volume, number, new)


def add_tpm(volume: Volume, *, unlock: Path) -> Slot:
    """Fill an empty slot from the TPM, and prove that it alone opens the volume. Raises Conflict or Unavailable."""
    if read_header(volume.device).of(Purpose.TPM2):
        raise Conflict(
            "storage.tpm_already",
            f"{volume.device} has a TPM slot; several would not be tried one after the other.",
            hint="Replace it with: intramuros storage reseal",
        )
    tpm.enrol(volume.device, unlock=unlock)
    found = read_header(volume.device).of(Purpose.TPM2)
    if len(found) != 1 or not tpm.opens(volume.device):
        raise StorageFailure("storage.tpm_unproven", f"The TPM took a key but does not open {volume.device} with it.")
    return found[0]


def remove_slot(volume: Volume, slot: Slot, *, proof: RecoveryProof) -> None:
    """Empty one slot and drop its token. Raises Conflict when the recovery key is not proven or is this very slot."""
    header = read_header(volume.device)
    found = header.slot(slot.number)
    if found is None or found.fingerprint != slot.fingerprint:
        raise NotFound("storage.slot_changed", f"Slot {slot.number} of {volume.device} no longer holds what it held.")
    if not proof.holds(header) or proof.slot == slot.number:
        raise Conflict(
            "storage.recovery_unproven",
            f"Slot {slot.number} ({slot.purpose}) stays: no other recovery key was proven by this command.",
        )
    if len(header.slots) < 2:
        raise InternalError("storage.last_slot", f"The last slot of {volume.device} is never emptied.")
    outcome = run(["systemd-cryptenroll", f"--wipe-slot={slot.number}", str(volume.device)], timeout=300.0)
    if outcome.status != 0 or read_header(volume.device).slot(slot.number) is not None:
        raise StorageFailure("storage.wipe", f"Slot {slot.number} of {volume.device} could not be emptied.")


def keep_only(volume: Volume, kept: Header, *, proof: RecoveryProof) -> None:
    """Empty every slot that is not in `kept`: what an interrupted command left behind."""
    known = {slot.fingerprint for slot in kept.slots}
    for slot in read_header(volume.device).slots:
        if slot.fingerprint not in known:
            remove_slot(volume, slot, proof=proof)


def _proven(volume: Volume, number: int, key_file: Path) -> Slot:
    if not cryptsetup.slot_opens(volume.device, number, key_file):
        raise StorageFailure(
            "storage.slot_unproven", f"Slot {number} of {volume.device} does not open with its new key."
        )
    slot = read_header(volume.device).slot(number)
    if slot is None:
        raise StorageFailure("storage.slot_unproven", f"Slot {number} of {volume.device} is empty after it was filled.")
    return slot
