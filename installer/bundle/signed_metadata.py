"""TUF metadata as the publisher makes it: root by 2 of 3 keys, the other roles by the release key.

Versions of targets, snapshot and timestamp are the bundle's sequence number, so that TUF's own rollback check and ours
speak of one number. Everything is computed from its inputs; no clock is read. (TUF specification 1.0.33)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from appliance.kernel.errors import BadInput, IntegrityFailure
from installer.bundle.keys import ROOT_THRESHOLD

VALID = timedelta(days=730)
ROOT_VALID = timedelta(days=5 * 365)
TARGET = "manifest.json"
_RELEASE_ROLES = (Targets.type, Snapshot.type, Timestamp.type)
_SERIALIZER = JSONSerializer(compact=False)


def first_root(roots: Sequence[CryptoSigner], release: Key, *, now: datetime) -> bytes:
    """Return version 1 of root.json, signed by every root key."""
    return _signed_root(_root(1, [signer.public_key for signer in roots], release, now), roots, previous=None)


def next_root(
    previous: bytes, *, roots: Sequence[Key], release: Key, signers: Sequence[CryptoSigner], now: datetime
) -> bytes:
    """Return the next version. Raises BadInput unless enough of the old and of the new keys sign."""
    old = read_root(previous)
    return _signed_root(_root(old.signed.version + 1, roots, release, now), signers, previous=old)


def read_root(data: bytes) -> Metadata[Root]:
    """Parse root metadata. Raises IntegrityFailure."""
    try:
        root: Metadata[Root] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise IntegrityFailure("bundle.root", f"The root metadata cannot be read: {error}.") from error
    if root.signed.type != Root.type:
        raise IntegrityFailure("bundle.root", f"This is {root.signed.type} metadata instead of root metadata.")
    return root


def root_fingerprint(data: bytes) -> str:
    """Return the fingerprint of a root.json: the SHA-256 of its bytes."""
    return hashlib.sha256(data).hexdigest()


def release_metadata(
    manifest: bytes, release: CryptoSigner, *, sequence: int, built: datetime, root: bytes
) -> Mapping[str, bytes]:
    """Return targets.json, snapshot.json and timestamp.json for a manifest. Raises BadInput for a wrong key."""
    expires = built + VALID
    target = TargetFile.from_data(TARGET, manifest, ["sha256"])
    targets = Metadata(Targets(version=sequence, expires=expires, targets={TARGET: target}))
    targets_bytes = _sign(targets, [release])
    snapshot = Metadata(
        Snapshot(version=sequence, expires=expires, meta={"targets.json": _meta(targets_bytes, sequence)})
    )
    snapshot_bytes = _sign(snapshot, [release])
    timestamp = Metadata(Timestamp(version=sequence, expires=expires, snapshot_meta=_meta(snapshot_bytes, sequence)))
    trusted = read_root(root).signed
    try:
        trusted.verify_delegate(Targets.type, targets.signed_bytes, targets.signatures)
    except RepositoryError as error:
        raise BadInput(
            "bundle.release_key",
            f"The release key is not the one that root version {trusted.version} names.",
            hint="Rotate the root first, or build with the keys that belong together.",
        ) from error
    return {
        "targets.json": targets_bytes,
        "snapshot.json": snapshot_bytes,
        "timestamp.json": _sign(timestamp, [release]),
    }


def load_roots(files: Iterable[Path]) -> list[bytes]:
    """Read root metadata files and check that each follows from the one before. Raises IntegrityFailure."""
    found = [file.read_bytes() for file in files]
    for older, newer in pairwise(found):
        old, new = read_root(older), read_root(newer)
        try:
            for judge in (old, new):
                judge.signed.verify_delegate(Root.type, new.signed_bytes, new.signatures)
        except RepositoryError as error:
            raise IntegrityFailure(
                "bundle.root_rotation", f"Root version {new.signed.version} is not signed by enough keys."
            ) from error
    return found


def _root(version: int, roots: Sequence[Key], release: Key, now: datetime) -> Root:
    root = Root(version=version, expires=(now + ROOT_VALID).replace(microsecond=0), consistent_snapshot=False)
    for key in roots:
        root.add_key(key, Root.type)
    for role in _RELEASE_ROLES:
        root.add_key(release, role)
    root.roles[Root.type].threshold = ROOT_THRESHOLD
    return root


def _signed_root(root: Root, signers: Sequence[CryptoSigner], *, previous: Metadata[Root] | None) -> bytes:
    metadata = Metadata(root)
    data = _sign(metadata, signers)
    try:
        for judge in (root, *([previous.signed] if previous else [])):
            judge.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:
        raise BadInput(
            "bundle.root_signers",
            f"Root version {root.version} needs {ROOT_THRESHOLD} signatures of the keys before and of the keys after.",
            hint="Bring two of the present root keys.",
        ) from error
    return data


def _sign(metadata: Metadata[Any], signers: Iterable[CryptoSigner]) -> bytes:
    for signer in sorted(signers, key=lambda one: one.public_key.keyid):
        metadata.sign(signer, append=True)
    return metadata.to_bytes(_SERIALIZER)


def _meta(data: bytes, version: int) -> MetaFile:
    return MetaFile(version=version, length=len(data), hashes={"sha256": hashlib.sha256(data).hexdigest()})
