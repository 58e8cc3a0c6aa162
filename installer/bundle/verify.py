"""Verification before anything else: TUF metadata, manifest, names, sizes, and every byte. Nothing is executed.

Order: what lies there at all; the signed manifest; older than what this machine accepted; missing, unlisted and cut-off
files, all by name and size; every digest; the list for `install.sh`. Only after the last check is anything written: the
machine's memory of the newest bundle, and a receipt. A refusal writes its receipt alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from packaging.version import Version

from appliance.kernel.canonical import sha256_hex
from appliance.kernel.clock import Clock, utc_now
from appliance.kernel.errors import Conflict, IntegrityFailure, IntramurosError, NotFound
from installer.bundle import layout, openpgp, receipts, sums
from installer.bundle.clock import effective_time
from installer.bundle.hashing import check_size, hash_file, hash_files
from installer.bundle.manifest import Entry, Manifest, Part, decode_manifest
from installer.bundle.progress import Report, silent
from installer.bundle.signed_manifest import SignedManifest, find_root, read_signed_manifest, read_small
from installer.bundle.tree import scan
from installer.bundle.trust_store import TrustStore

_LARGEST_SUMS = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A bundle of which every byte was checked."""

    root: Path
    version: str
    sequence: int
    built: datetime
    manifest_digest: str
    manifest: Manifest
    receipt: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Where trust comes from and where the outcome goes. `remember` is off for a look that shall leave no trace."""

    trust: TrustStore = field(default_factory=TrustStore)
    receipts: Path = receipts.FOLDER
    root_fingerprint: str = ""
    remember: bool = True
    clock: Clock = utc_now


def verify_bundle(root: Path, policy: Policy | None = None, *, report: Report = silent) -> Verified:
    """Check everything, then remember it. Raises IntegrityFailure that names what is wrong, or NotFound."""
    chosen = policy or Policy()
    try:
        signed, manifest = _check(root, chosen, report)
    except (IntramurosError, OSError) as error:
        if chosen.remember:
            _keep_refusal(root, error, chosen)
        raise
    digest = sha256_hex(signed.data)
    receipt = None
    if chosen.remember:
        chosen.trust.remember(manifest, digest, root=signed.root, timestamp=signed.timestamp)
        document = {
            "verdict": "accepted",
            "medium": str(root),
            "version": manifest.version,
            "sequence": manifest.sequence,
            "built": manifest.built,
            "manifest_sha256": digest,
            "files": len(manifest.files),
            "bytes": manifest.total_size,
            "root_version": signed.root_version,
            "publisher": manifest.publisher,
        }
        receipt = receipts.write_receipt(chosen.receipts, document, at=chosen.clock())
    return Verified(
        root=root,
        version=manifest.version,
        sequence=manifest.sequence,
        built=manifest.built_at,
        manifest_digest=digest,
        manifest=manifest,
        receipt=receipt,
    )


def _keep_refusal(root: Path, error: IntramurosError | OSError, policy: Policy) -> None:
    """Write the receipt of a refusal. A disk that is too full for it does not hide why the bundle was refused."""
    code, reason = (
        (error.code, error.message) if isinstance(error, IntramurosError) else ("bundle.unreadable", str(error))
    )
    refusal = {"verdict": "refused", "medium": str(root), "code": code, "reason": reason}
    try:
        receipts.write_receipt(policy.receipts, refusal, at=policy.clock())
    except OSError as failure:
        error.add_note(f"No receipt was written: {failure}")


def _trusted_root(root: Path, policy: Policy) -> bytes:
    """Return the root that this machine trusts, or for a machine that trusts none yet the one of the fingerprint."""
    if not policy.root_fingerprint:
        return policy.trust.root()
    found = find_root(root, policy.root_fingerprint)
    if policy.trust.root_file.is_file() and policy.trust.root() != found:
        raise Conflict(
            "bundle.root_known",
            f"This machine trusts another root already, in {policy.trust.folder}.",
            hint="Leave --root-fingerprint out: a newer root is taken over when the trusted one signs it.",
        )
    return found


def _check(root: Path, policy: Policy, report: Report) -> tuple[SignedManifest, Manifest]:
    if root.is_dir() and not any((root / name).is_file() for name in layout.SIGNED_APART):
        inner = next((one for one in sorted(root.iterdir()) if (one / layout.MANIFEST).is_file()), None)
        raise NotFound(
            "bundle.not_found",
            f"{root} is no bundle: it has no {layout.MANIFEST}.",
            hint=f"Did you mean {inner}?" if inner else "Give the folder of the bundle; is the medium mounted?",
        )
    present = scan(root)
    now = effective_time(policy.clock(), policy.trust.signed_times())
    trusted = _trusted_root(root, policy)
    signed = read_signed_manifest(root, root=trusted, timestamp=policy.trust.timestamp(), now=now)
    manifest = decode_manifest(signed.data)
    _check_identity(manifest, signed, policy.trust)
    pieces = _pieces(manifest, present)
    _check_names(pieces, present)
    _check_sizes(root, pieces, present)
    digests = hash_files(root, {path: piece.size for path, piece in pieces.items()}, what="verified", report=report)
    _check_digests(pieces, digests)
    _check_sums(root, manifest, digests)
    return signed, manifest


def _check_identity(manifest: Manifest, signed: SignedManifest, trust: TrustStore) -> None:
    if manifest.product != layout.PRODUCT or manifest.target != layout.TARGET:
        raise IntegrityFailure(
            "bundle.product", f"This is a bundle of {manifest.product} for {manifest.target}, not for this machine."
        )
    if manifest.sequence != signed.sequence:
        raise IntegrityFailure("bundle.mixed", "The manifest and its metadata belong to different bundles.")
    accepted = trust.accepted()
    if accepted is not None and manifest.sequence < accepted.sequence:
        raise IntegrityFailure(
            "bundle.older",
            f"This bundle (number {manifest.sequence}) is older than number {accepted.sequence}, version"
            f" {accepted.version}, which was accepted here before.",
            hint="Bring the newer one. An older bundle could bring back faults that were repaired.",
        )
    if accepted is not None and Version(accepted.version) < Version(manifest.min_from_version):
        raise IntegrityFailure(
            "bundle.too_far",
            f"This bundle updates version {manifest.min_from_version} and newer; this machine has {accepted.version}.",
            hint=f"Install a bundle of version {manifest.min_from_version} first.",
        )


def _pieces(manifest: Manifest, present: Mapping[str, int]) -> dict[str, Entry | Part]:
    """Return what must lie on the medium: a large file whole where it was joined, otherwise its parts."""
    pieces: dict[str, Entry | Part] = {}
    for entry in manifest.files:
        if entry.parts and entry.path not in present:
            pieces |= {part.path: part for part in entry.parts}
        else:
            pieces[entry.path] = entry
    return pieces


def _check_names(pieces: Mapping[str, Entry | Part], present: Mapping[str, int]) -> None:
    wanted = pieces.keys() | layout.SIGNED_APART
    if missing := sorted(wanted - present.keys()):
        raise IntegrityFailure(
            "bundle.missing", f"{_named(missing)} missing.", hint="Copy the whole folder of the bundle again."
        )
    if unlisted := sorted(present.keys() - wanted):
        raise IntegrityFailure(
            "bundle.unlisted",
            f"{_named(unlisted)} on the medium but not in the manifest.",
            hint="A bundle holds nothing else. Remove it, or copy the folder of the bundle again.",
        )


def _check_sizes(root: Path, pieces: Mapping[str, Entry | Part], present: Mapping[str, int]) -> None:
    """Refuse a wrong size before anything is hashed, and say so when it is another file of the bundle."""
    by_size = {piece.size: path for path, piece in pieces.items()}
    for path, piece in pieces.items():
        size = present[path]
        if size != piece.size and size in by_size:
            found = hash_file(root / path, size, shown=path)
            if other := next((name for name, one in pieces.items() if one.sha256 == found), None):
                raise _swapped(path, other)
        check_size(path, size, piece.size)


def _check_digests(pieces: Mapping[str, Entry | Part], digests: Mapping[str, str]) -> None:
    owner = {piece.sha256: path for path, piece in pieces.items()}
    wrong = sorted(path for path, piece in pieces.items() if digests[path] != piece.sha256)
    if not wrong:
        return
    path = wrong[0]
    more = f" {len(wrong) - 1} more differ." if len(wrong) > 1 else ""
    if digests[path] in owner:
        raise _swapped(path, owner[digests[path]])
    raise IntegrityFailure(
        "bundle.altered", f"{path} is not what the publisher signed.{more}", hint="Do not use this medium."
    )


def _swapped(path: str, other: str) -> IntegrityFailure:
    return IntegrityFailure("bundle.swapped", f"{path} holds the content of {other}.", hint="Do not use this medium.")


def _check_sums(root: Path, manifest: Manifest, digests: Mapping[str, str]) -> None:
    """Hold the list for `install.sh` against the manifest, and its signature against the publisher's key."""
    signer = openpgp.verify_detached(root / layout.SUMS, root / layout.SUMS_SIGNATURE, root / layout.PUBLISHER)
    if signer != manifest.publisher:
        raise IntegrityFailure(
            "bundle.unknown_publisher", f"{layout.SUMS} is signed by {signer}, not by {manifest.publisher}."
        )
    listed = sums.parse_sums(read_small(root / layout.SUMS, limit=_LARGEST_SUMS))
    wanted = dict(digests)
    for path in layout.SIGNED_APART - {layout.SUMS, layout.SUMS_SIGNATURE}:
        wanted[path] = sha256_hex(read_small(root / path, limit=_LARGEST_SUMS))
    for entry in manifest.files:
        if entry.parts and entry.path in wanted:  # joined since; the list names its parts
            del wanted[entry.path]
            wanted |= {part.path: part.sha256 for part in entry.parts}
    if listed != wanted:
        odd = sorted(path for path in listed.keys() | wanted.keys() if listed.get(path) != wanted.get(path))
        raise IntegrityFailure("bundle.altered", f"{layout.SUMS} and the manifest differ in {odd[0]}.")


def _named(paths: list[str]) -> str:
    shown = ", ".join(paths[:3])
    return f"{shown} {'is' if len(paths) == 1 else f'and {len(paths) - 3} more are' if len(paths) > 3 else 'are'}"
