"""`backup.json`: what a snapshot of a state directory must contain, so that a restore can prove that it is whole.

The list of files outside the blob store is explicit; blobs name themselves by digest, so their names are summed up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from appliance.kernel.canonical import digest_of
from appliance.kernel.errors import IntegrityFailure

FORMAT = "intramuros-backup/1"
NAME = "backup.json"
_SHARD = re.compile(r"[0-9a-f]{2}")
_REST = re.compile(r"[0-9a-f]{62}")


class CapturedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file by path relative to the state directory, SHA-256 and size in bytes."""

    path: str
    digest: str
    size: int


class CapturedBlobs(msgspec.Struct, frozen=True, kw_only=True):
    """The blob store: how many, how many bytes, and the digest of the sorted list of digests."""

    count: int
    size: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One capture of a state directory. `at` is RFC 3339 text in UTC."""

    format: str
    version: str
    instance: str
    at: str
    database: CapturedFile
    files: tuple[CapturedFile, ...]
    blobs: CapturedBlobs


def read_manifest(root: Path) -> Manifest:
    """Read the manifest of a restored tree. Raises IntegrityFailure."""
    try:
        manifest = msgspec.json.decode((root / NAME).read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise IntegrityFailure(
            "backup.not_a_state", f"The snapshot has no {NAME}: it is not one of an appliance's state."
        ) from error
    except msgspec.DecodeError as error:
        raise IntegrityFailure("backup.not_a_state", f"{NAME} of the snapshot cannot be read: {error}.") from error
    if manifest.format != FORMAT:
        raise IntegrityFailure(
            "backup.format",
            f"The snapshot has format {manifest.format!r}; this version reads {FORMAT!r}.",
            hint="Restore it with the version of the product that wrote it, or a newer one.",
        )
    return manifest


def blob_files(blobs: Path) -> Iterator[tuple[str, Path]]:
    """Yield (digest, path) of every blob, sorted; other names, such as temporary ones, are passed over."""
    for shard in _names(blobs / "sha256", _SHARD):
        for rest in _names(blobs / "sha256" / shard, _REST):
            yield shard + rest, blobs / "sha256" / shard / rest


def summarise_blobs(found: Iterable[tuple[str, int]]) -> CapturedBlobs:
    """Sum up (digest, size) pairs."""
    pairs = sorted(found)
    return CapturedBlobs(
        count=len(pairs), size=sum(size for _, size in pairs), digest=digest_of([digest for digest, _ in pairs])
    )


def _names(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if pattern.fullmatch(entry.name))
    except FileNotFoundError:
        return []
