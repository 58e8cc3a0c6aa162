"""Real LUKS2 headers in files: everything but the mapping works without a device mapper and in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from installer.storage import cryptsetup
from installer.storage.header import read_header
from installer.storage.keyfiles import KeyFiles
from installer.storage.request import StorageRequest
from installer.storage.setup import Secrets, fill_slots, format_and_open
from installer.storage.volume import Cost, Places, Volume

CHEAP = Cost(passphrase=("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"))
SIZE = 64 << 20
RECOVERY = "-".join(["cbdefghi"] * 8)
OTHER_RECOVERY = "-".join(["jklnrtuv"] * 8)
PASSPHRASE = "correct horse battery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One volume in a file, its places below a folder in memory, and where keys go."""

    volume: Volume
    places: Places
    keys: KeyFiles

    @property
    def device(self) -> Path:
        return self.volume.device

    def key(self, text: str) -> Path:
        """Return a key file that holds `text`."""
        return self.keys.put(f"key-{len(text)}-{text[:4]}-{text[-4:]}", text)

    def given(self, *, recovery: str | None = RECOVERY, passphrase: str | None = PASSPHRASE) -> Secrets:
        """Return secrets as the installer lays them down."""
        return Secrets(
            recovery=self.key(recovery) if recovery else None, passphrase=self.key(passphrase) if passphrase else None
        )

    def request(self, **changes: object) -> StorageRequest:
        """Return what the answers would say of this volume."""
        wished = {"device": str(self.device), "mount": str(self.volume.mount), "unlock": ("passphrase",)} | changes
        return StorageRequest(**wished)  # type: ignore[arg-type]

    def format(self, given: Secrets | None = None, **changes: object) -> tuple[str, ...]:
        """Run the first half of a set-up; opening needs a device mapper, so it is a test of the key here."""
        return format_and_open(
            self.volume, self.request(**changes), self.places, given or Secrets(), images=True, opened=_opens
        )

    def fill(self, given: Secrets | None = None, **changes: object) -> tuple[str, ...]:
        """Run the second half of a set-up."""
        return fill_slots(self.volume, self.request(**changes), self.places, given or self.given(), self.keys)


def _opens(volume: Volume, key_file: Path) -> None:
    slots = read_header(volume.device).slots
    assert any(cryptsetup.slot_opens(volume.device, slot.number, key_file) for slot in slots)
