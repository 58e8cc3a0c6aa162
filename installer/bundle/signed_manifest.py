"""Reads the manifest of a medium through TUF: roots, timestamp, snapshot, targets, and only then the manifest.

python-tuf does the walk; this module gives it a medium instead of a network, the effective time instead of the clock,
and turns its refusals into ours. Nothing is written but in a folder that is gone afterwards.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api import exceptions as tuf
from tuf.ngclient import Updater
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from appliance.kernel.errors import IntegrityFailure, InternalError, IntramurosError
from installer.bundle.layout import MANIFEST, METADATA
from installer.bundle.signed_metadata import TARGET, root_fingerprint

_LARGEST_MANIFEST = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedManifest:
    """The manifest's bytes and the metadata that vouches for them."""

    data: bytes
    root: bytes
    root_version: int
    timestamp: bytes
    sequence: int


def read_signed_manifest(medium: Path, *, root: bytes, timestamp: bytes | None, now: datetime) -> SignedManifest:
    """Return the manifest that `root` vouches for at time `now`.

    `timestamp` is the newest one that was trusted before; with it older metadata is refused. Raises IntegrityFailure.
    """
    fetcher = _MediumFetcher(medium)
    with tempfile.TemporaryDirectory(prefix="intramuros-tuf-") as scratch:
        local, targets = Path(scratch) / "metadata", Path(scratch) / "targets"
        local.mkdir()
        targets.mkdir()
        if timestamp is not None:
            (local / "timestamp.json").write_bytes(timestamp)
        try:
            updater = Updater(
                metadata_dir=str(local),
                metadata_base_url="medium:///tuf/metadata/",
                target_dir=str(targets),
                target_base_url="medium:///tuf/targets/",
                fetcher=fetcher,
                config=UpdaterConfig(),
                bootstrap=root,
            )
            _set_time(updater, now)
            updater.refresh()
            info = updater.get_targetinfo(TARGET)
            if info is None or info.length > _LARGEST_MANIFEST:
                raise IntegrityFailure("bundle.manifest", "The metadata names no manifest of a possible size.")
            data = Path(updater.download_target(info)).read_bytes()
        except (tuf.RepositoryError, tuf.DownloadError) as error:
            raise _refusal(error, fetcher.last) from error
        newest = (local / "root.json").read_bytes()
        return SignedManifest(
            data=data,
            root=newest,
            root_version=updater._trusted_set.root.version,
            timestamp=(local / "timestamp.json").read_bytes(),
            sequence=updater._trusted_set.targets.version,
        )


def find_root(medium: Path, fingerprint: str) -> bytes:
    """Return the root.json on a medium that has this fingerprint. Raises IntegrityFailure when none has."""
    wanted = "".join(fingerprint.split()).replace(":", "").lower()
    for version in range(1, UpdaterConfig().max_root_rotations):
        try:
            data = read_small(medium / METADATA / f"{version}.root.json", limit=UpdaterConfig().root_max_length)
        except FileNotFoundError:
            break
        if root_fingerprint(data) == wanted:
            return data
    raise IntegrityFailure(
        "bundle.unknown_publisher",
        f"No root metadata on {medium} has the fingerprint {wanted[:64]}.",
        hint="Compare it with the paper again. When it is right, the medium comes from somebody else.",
    )


def read_small(file: Path, *, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes without following a link. Raises OSError, IntegrityFailure."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IntegrityFailure("bundle.special", f"{file.name} is not a regular file.")
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise IntegrityFailure("bundle.altered", f"{file.name} is larger than such a file can be.")
    return data


class _MediumFetcher(FetcherInterface):
    """Serves python-tuf the files of a medium. Remembers the last name, which says what a refusal is about."""

    def __init__(self, medium: Path) -> None:
        self._medium = medium
        self.last = ""

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.last = unquote(urlsplit(url).path).lstrip("/")
        name = self.last
        allowed = name == MANIFEST or (name.startswith(f"{METADATA}/") and "/" not in name[len(METADATA) + 1 :])
        if not allowed:
            raise tuf.DownloadHTTPError(f"{name} is not metadata", 403)
        try:
            data = read_small(self._medium / name, limit=_LARGEST_MANIFEST)
        except FileNotFoundError as error:
            raise tuf.DownloadHTTPError(f"{name} is not there", 404) from error
        return iter([data])


def _set_time(updater: Updater, now: datetime) -> None:
    """Judge expiry by the effective time. python-tuf has no public way to say what time it is."""
    trusted = updater._trusted_set
    if not isinstance(getattr(trusted, "reference_time", None), datetime):
        raise InternalError("bundle.tuf", "This release of python-tuf keeps its time elsewhere.")
    trusted.reference_time = now


def _refusal(error: Exception, about: str) -> IntramurosError:
    """Say in our words what TUF refused."""
    name = about.rpartition("/")[2]
    match error:
        case tuf.DownloadHTTPError():
            return IntegrityFailure("bundle.unsigned", f"{about} is missing: nothing signs this bundle.")
        case tuf.UnsignedMetadataError() if name.endswith("root.json"):
            return IntegrityFailure(
                "bundle.root_rotation",
                f"{about} changes the publisher's keys without enough signatures of the present ones.",
                hint="Do not use this medium. Ask the publisher; two of three root keys must sign a change.",
            )
        case tuf.UnsignedMetadataError():
            return IntegrityFailure("bundle.unsigned", f"{about} is not signed by the publisher that is trusted here.")
        case tuf.ExpiredMetadataError():
            return IntegrityFailure(
                "bundle.expired",
                f"{about} has expired: the publisher no longer vouches for this bundle.",
                hint="Bring a newer bundle. If it is new, look at this machine's clock: timedatectl",
            )
        case tuf.BadVersionNumberError() if name == "timestamp.json":
            return IntegrityFailure("bundle.older", f"{about} is older than what was accepted on this machine.")
        case tuf.BadVersionNumberError():
            return IntegrityFailure("bundle.mixed", f"{about} belongs to another bundle: {error}.")
        case tuf.LengthOrHashMismatchError() | tuf.DownloadLengthMismatchError():
            return IntegrityFailure("bundle.altered", f"{about} is not what the publisher signed.")
        case tuf.RepositoryError():
            return IntegrityFailure("bundle.altered", f"{about} cannot be read as metadata: {error}.")
        case _ if isinstance(error.__cause__, IntramurosError):
            return error.__cause__
        case _:
            return IntegrityFailure("bundle.unsigned", f"{about} cannot be read: {error.__cause__ or error}.")
