"""What a machine trusts: the publisher's root metadata and OpenPGP key, and the newest bundle it ever accepted.

Kept in /etc/intramuros/trust, written after a successful verification alone. The OpenPGP key is laid by `install.sh`,
which asked a person for its fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntegrityFailure, NotFound
from installer.bundle.manifest import Manifest, parse_instant

FOLDER = Path("/etc/intramuros/trust")


class Accepted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest bundle that was accepted here."""

    version: str
    sequence: int
    built: str
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The store at `folder`; it may be empty."""

    folder: Path = FOLDER

    @property
    def root_file(self) -> Path:
        """The newest trusted root.json."""
        return self.folder / "root.json"

    @property
    def timestamp_file(self) -> Path:
        """The newest trusted timestamp.json: TUF's own memory against older metadata."""
        return self.folder / "timestamp.json"

    @property
    def accepted_file(self) -> Path:
        """The newest accepted bundle."""
        return self.folder / "accepted.json"

    def root(self) -> bytes:
        """Return the trusted root metadata. Raises NotFound when nothing is trusted yet."""
        if not self.root_file.is_file():
            raise NotFound(
                "bundle.no_trust",
                f"{self.folder} trusts no publisher yet.",
                hint="Compare the fingerprint on paper and give it: --root-fingerprint HEX",
            )
        return self.root_file.read_bytes()

    def timestamp(self) -> bytes | None:
        """Return the newest trusted timestamp metadata."""
        return self.timestamp_file.read_bytes() if self.timestamp_file.is_file() else None

    def accepted(self) -> Accepted | None:
        """Return the newest accepted bundle. Raises IntegrityFailure when the record cannot be read."""
        if not self.accepted_file.is_file():
            return None
        try:
            found = msgspec.json.decode(self.accepted_file.read_bytes(), type=Accepted)
            parse_instant(found.built)
        except (msgspec.MsgspecError, ValueError) as error:
            raise IntegrityFailure(
                "bundle.trust_damaged",
                f"{self.accepted_file} cannot be read: {error}.",
                hint="Without it an older bundle could be installed; restore it from a backup.",
            ) from error
        return found

    def signed_times(self) -> list[datetime]:
        """Return the times that were signed and accepted here."""
        found = self.accepted()
        return [parse_instant(found.built)] if found else []

    def remember(self, manifest: Manifest, digest: str, *, root: bytes, timestamp: bytes) -> None:
        """Trust this root from now on, and nothing older than this bundle. The record that forbids comes first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = Accepted(
            version=manifest.version, sequence=manifest.sequence, built=manifest.built, manifest_digest=digest
        )
        for file, data in (
            (self.accepted_file, canonical_json(msgspec.to_builtins(record))),
            (self.root_file, root),
            (self.timestamp_file, timestamp),
        ):
            if not file.is_file() or file.read_bytes() != data:
                write_file(file, data)
