"""The manifest: every file of a bundle with size, SHA-256, kind, origin and licence, in one canonical JSON document.

It is the only target of the TUF metadata, so that one signature covers everything. What is read here has been verified
already and is still held against the schema: a signed mistake is a mistake.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import IntegrityFailure
from installer.bundle.layout import SIGNED_APART, check_path, check_twins

SCHEMA = 1
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class Kind(StrEnum):
    """What a file is for."""

    PACKAGE = "package"
    PACKAGE_INDEX = "package-index"
    WHEEL = "wheel"
    LOCK = "lock"
    PLAYBOOK = "playbook"
    CONVERTER = "converter"
    MODEL = "model"
    MODEL_CARD = "model-card"
    SBOM = "sbom"
    BOOTSTRAP = "bootstrap"
    LICENCE = "licence"


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a file came from: a suite and package of Debian, a distribution of the Python index, or a given file."""

    apt: str = ""
    package: str = ""
    version: str = ""
    pypi: str = ""
    given: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece of a file that was too large for the medium's file system."""

    path: str
    size: Size
    sha256: Digest


ReleaseNumber = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9}){1,3}$")]
"""A version of the product: two to four numbers."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One file. With `parts` it lies on the medium in pieces, or whole after they were joined."""

    path: str
    size: Size
    sha256: Digest
    kind: Kind
    origin: Origin
    licence: str = ""
    parts: tuple[Part, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one bundle is and holds. `sequence` grows with every bundle of a publisher and never shrinks on a box."""

    schema: int
    product: str
    version: ReleaseNumber
    sequence: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    channel: str
    min_from_version: ReleaseNumber
    target: str
    processor: str
    built: str
    publisher: Annotated[str, msgspec.Meta(pattern="^[0-9A-F]{40}$")]
    files: tuple[Entry, ...]

    @property
    def built_at(self) -> datetime:
        """When it was built."""
        return parse_instant(self.built)

    @property
    def total_size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)


def instant_text(instant: datetime) -> str:
    """Return an instant as the manifest writes it: UTC, whole seconds."""
    return instant.astimezone(UTC).strftime(_INSTANT)


def parse_instant(text: str) -> datetime:
    """Parse what `instant_text` wrote. Raises ValueError."""
    return datetime.strptime(text, _INSTANT).replace(tzinfo=UTC)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes; equal manifests give equal bytes."""
    return canonical_json(msgspec.to_builtins(manifest))


def decode_manifest(data: bytes) -> Manifest:
    """Parse canonical bytes and hold every name against the rules. Raises IntegrityFailure."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
        parse_instant(manifest.built)
    except (msgspec.MsgspecError, ValueError) as error:
        raise IntegrityFailure("bundle.manifest", f"The manifest cannot be read: {error}.") from error
    if manifest.schema != SCHEMA:
        raise IntegrityFailure(
            "bundle.manifest_schema",
            f"The manifest has schema {manifest.schema}; this program knows {SCHEMA}.",
            hint="Use the install.sh that lies on that medium.",
        )
    if encode_manifest(manifest) != data:
        raise IntegrityFailure("bundle.manifest", "The manifest is not in its canonical form.")
    check_entries(manifest.files)
    return manifest


def check_entries(entries: tuple[Entry, ...]) -> None:
    """Raise IntegrityFailure when a name, an order, or the arithmetic of parts is not as it must be."""
    paths = [entry.path for entry in entries]
    parts = [part.path for entry in entries for part in entry.parts]
    for path in (*paths, *parts):
        check_path(path)
        if path in SIGNED_APART:
            raise IntegrityFailure("bundle.path", f"The manifest lists {path}, which is signed by itself.")
    if paths != sorted(paths):
        raise IntegrityFailure("bundle.manifest", "The manifest's files are not in order.")
    check_twins((*paths, *parts))
    for entry in entries:
        if entry.parts and sum(part.size for part in entry.parts) != entry.size:
            raise IntegrityFailure("bundle.manifest", f"The parts of {entry.path} do not add up to its size.")
