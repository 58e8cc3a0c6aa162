"""What the LUKS2 header says: which slots are filled, for what, and with which volume key. The header is the truth.

A slot's purpose follows from the token that points to it; one without a token is a passphrase, or the key of the
set-up in the last slot. A fingerprint is the hash of a slot's random salt: it changes whenever the key does and tells
nothing about the key. LUKS2 On-Disk Format Specification 1.1.1, section 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from appliance.kernel.errors import IntegrityFailure
from installer.storage import cryptsetup
from installer.storage.volume import BOOTSTRAP_SLOT


class Purpose(StrEnum):
    """What a slot is for."""

    PASSPHRASE = "passphrase"  # noqa: S105 - the name of a purpose
    RECOVERY = "recovery"
    TPM2 = "tpm2"
    TANG = "tang"
    BOOTSTRAP = "bootstrap"
    FOREIGN = "foreign"


_TOKENS = {"systemd-recovery": Purpose.RECOVERY, "systemd-tpm2": Purpose.TPM2, "clevis": Purpose.TANG}
_REENCRYPTION = "online-reencrypt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One filled keyslot. `token` is the number of the token that points to it."""

    number: int
    purpose: Purpose
    fingerprint: str
    volume_key: str
    token: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header's slots by number, the fingerprint of the volume key, and whether a change of that key is under way."""

    uuid: str
    slots: tuple[Slot, ...]
    volume_key: str
    reencrypting: bool

    def of(self, purpose: Purpose) -> tuple[Slot, ...]:
        """Return the slots of one purpose."""
        return tuple(slot for slot in self.slots if slot.purpose is purpose)

    def slot(self, number: int) -> Slot | None:
        """Return a filled slot by its number."""
        return next((slot for slot in self.slots if slot.number == number), None)

    def by_fingerprint(self, fingerprint: str) -> Slot | None:
        """Return a filled slot by its fingerprint."""
        return next((slot for slot in self.slots if slot.fingerprint == fingerprint), None)

    def free_slot(self, *, beside: int = BOOTSTRAP_SLOT) -> int:
        """Return the lowest empty slot, never that of the set-up."""
        taken = {slot.number for slot in self.slots} | {beside}
        return next(number for number in range(BOOTSTRAP_SLOT + 1) if number not in taken)


def read_header(device: Path) -> Header:
    """Read the header of a device or of a header's backup. Raises NotFound or IntegrityFailure."""
    return parse_header(cryptsetup.metadata(device), uuid=cryptsetup.uuid_of(device))


def parse_header(text: str, *, uuid: str) -> Header:
    """Interpret the JSON area of a header. Raises IntegrityFailure."""
    try:
        document = msgspec.json.decode(text)
        return _interpret(document, uuid)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityFailure(
            "storage.header", f"The header of volume {uuid} cannot be understood: {error}."
        ) from error


def _interpret(document: Mapping[str, Any], uuid: str) -> Header:
    tokens = {
        int(slot): (int(number), _TOKENS.get(token["type"], Purpose.FOREIGN))
        for number, token in document["tokens"].items()
        for slot in token["keyslots"]
    }
    keys = {
        int(slot): _fingerprint("volume key", digest["salt"], digest["digest"])
        for digest in document["digests"].values()
        for slot in digest["keyslots"]
    }
    slots = []
    for name, keyslot in sorted(document["keyslots"].items(), key=lambda item: int(item[0])):
        number = int(name)
        if keyslot["type"] != "luks2":
            continue  # the area in which a change of the volume key keeps its progress
        default = Purpose.BOOTSTRAP if number == BOOTSTRAP_SLOT else Purpose.PASSPHRASE
        token, purpose = tokens.get(number, (None, default))
        slots.append(
            Slot(
                number=number,
                purpose=purpose,
                fingerprint=_fingerprint("slot", keyslot["kdf"]["salt"]),
                volume_key=keys.get(number, ""),
                token=token,
            )
        )
    requirements = document["config"].get("requirements", {}).get("mandatory", ())
    return Header(
        uuid=uuid,
        slots=tuple(slots),
        volume_key=_fingerprint("volume key", *_data_digest(document)),
        reencrypting=any(item.startswith(_REENCRYPTION) for item in requirements),
    )


def _data_digest(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return salt and digest of the key that the data segment is encrypted with; segment 0 is the data."""
    for digest in document["digests"].values():
        if "0" in digest["segments"]:
            return digest["salt"], digest["digest"]
    raise ValueError("no key belongs to the data")


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
