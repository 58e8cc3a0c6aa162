"""Proofs that a key opens the volume, made so that they cannot be wrong.

`cryptsetup open --test-passphrase --key-file WRONG` returns 0 as soon as the header has a systemd-tpm2 token that
works: the token is tried first, even when a slot is named. Only `--disable-external-tokens --key-slot N` asks about
the key that was given. Invariant: a RecoveryProof exists only for a slot that a key opened in this very process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.errors import Forbidden, NotFound
from installer.storage import cryptsetup
from installer.storage.header import Header, Purpose, Slot, read_header


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryProof:
    """The recovery key of this slot was given, and it opened the volume. Made by `prove_recovery` alone."""

    uuid: str
    slot: int
    fingerprint: str

    def holds(self, header: Header) -> bool:
        """Tell whether the proven slot is still in the header."""
        found = header.slot(self.slot)
        return header.uuid == self.uuid and found is not None and found.fingerprint == self.fingerprint


def prove_recovery(device: Path, key_file: Path) -> RecoveryProof:
    """Prove that a recovery key opens the volume. Raises NotFound (there is none) or Forbidden (not with this key)."""
    header = read_header(device)
    slot = _opened(device, header, Purpose.RECOVERY, key_file)
    if slot is None:
        raise Forbidden(
            "storage.recovery_wrong",
            f"This recovery key does not open {device}.",
            hint="Compare it with the paper letter by letter; a key that was replaced no longer opens anything.",
        )
    return RecoveryProof(uuid=header.uuid, slot=slot.number, fingerprint=slot.fingerprint)


def prove_passphrase(device: Path, key_file: Path) -> Slot:
    """Return the passphrase slot that this key opens. Raises NotFound or Forbidden."""
    slot = _opened(device, read_header(device), Purpose.PASSPHRASE, key_file)
    if slot is None:
        raise Forbidden(
            "storage.passphrase_wrong",
            f"This passphrase does not open {device}.",
            hint="Upper and lower case matter; the keyboard layout of the screen may be another one.",
        )
    return slot


def _opened(device: Path, header: Header, purpose: Purpose, key_file: Path) -> Slot | None:
    slots = header.of(purpose)
    if not slots:
        raise NotFound("storage.no_such_slot", f"{device} has no {purpose} slot.")
    return next((slot for slot in slots if cryptsetup.slot_opens(device, slot.number, key_file)), None)
