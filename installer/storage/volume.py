"""What the data volume is called and where its records lie; nothing here touches a disk.

`/etc/intramuros/luks.json` and `/var/lib/intramuros/storage` are on the root file system, which is not encrypted:
neither holds a secret. What is secret lives below `run`, which is memory, for as long as one command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = "intramuros-data"
"""name of the mapping below /dev/mapper, and label of the LUKS2 header"""

BOOTSTRAP_SLOT = 31
"""the last of LUKS2's 32 slots: holds the random key of the set-up and is empty ever after"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the records of the volume lie."""

    table: Path
    state: Path
    run: Path
    mapper: Path

    @property
    def journal(self) -> Path:
        """The operation that has begun and not ended."""
        return self.state / "operation.json"

    @property
    def header_backup(self) -> Path:
        """The one backup of the header that this box keeps."""
        return self.state / "header.luks"

    @property
    def bootstrap_key(self) -> Path:
        """The key of a set-up that has not ended."""
        return self.run / "bootstrap.key"


def places_below(root: Path) -> Places:
    """Return the places of the box whose root directory is `root`."""
    return Places(
        table=root / "etc/intramuros/luks.json",
        state=root / "var/lib/intramuros/storage",
        run=root / "run/intramuros/storage",
        mapper=root / "dev/mapper",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What guessing a typed passphrase shall cost: cryptsetup's options. Random 256-bit keys need no such cost."""

    passphrase: Sequence[str] = ("--pbkdf", "argon2id")
    random: Sequence[str] = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One data volume: the encrypted device, the mapping's name, where it is mounted."""

    device: Path
    mount: Path
    name: str = NAME
    cost: Cost = Cost()

    def mapping(self, places: Places) -> Path:
        """The decrypted device, when it is open."""
        return places.mapper / self.name
