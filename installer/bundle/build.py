"""Building: a pure function of inputs, keys, date and sequence. No network, no clock, no chance.

The medium appears by one rename. Order: files, signed archive of Debian packages, bill of materials, manifest, TUF
metadata, and last the list that the stand-alone script reads.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.kernel.canonical import sha256_hex
from appliance.kernel.durable import fsync_directory
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure
from installer.bundle import debian_archive, layout, sbom, signed_metadata, sums
from installer.bundle.hashing import hash_files
from installer.bundle.inputs import Described, Inputs, read_inputs, tree_of
from installer.bundle.keys import RELEASE, KeyFolder, load_key
from installer.bundle.manifest import (
    SCHEMA,
    Entry,
    Kind,
    Manifest,
    Origin,
    Part,
    check_entries,
    encode_manifest,
    instant_text,
)
from installer.bundle.openpgp import Signer
from installer.bundle.parts import split_file
from installer.bundle.progress import Report, silent
from installer.bundle.tree import scan

SMALLEST_PART = 1 << 20

Proof = Callable[[Path, Sequence[str]], int]
"""Says how many packages a machine installs from a medium for these names, or raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a build is told besides its inputs."""

    built: datetime
    sequence: int
    channel: str = "stable"
    min_from_version: str = "0.1.0"
    part_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The medium that was made; `packages` is what its proof found, when one was asked for."""

    folder: Path
    manifest: Manifest
    manifest_digest: str
    packages: int | None


def build(
    inputs_folder: Path,
    keys: KeyFolder,
    passphrase: bytes,
    out: Path,
    settings: Settings,
    *,
    prove: Proof | None = None,
    report: Report = silent,
) -> Built:
    """Make the medium in the new folder `out`, after `prove` found its packages complete.

    Raises Conflict when `out` exists, BadInput, IntegrityFailure, and what `prove` raises; then nothing is left.
    """
    if out.exists():
        raise Conflict("bundle.out_exists", f"{out} exists.", hint="Choose a new folder, or remove the old one.")
    inputs = read_inputs(inputs_folder)
    publisher = keys.fingerprint()
    roots = signed_metadata.load_roots(keys.roots())
    signer = Signer(keys, passphrase, at=settings.built)
    release = load_key(keys.private(RELEASE), passphrase)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        described = _copy(inputs_folder, inputs, partial)
        described |= _add_trust(partial, keys, roots)
        described |= _sign_archive(partial, inputs, signer, settings, report)
        entries = _entries(partial, described, settings.part_size, report)
        entries += _bills(partial, entries, inputs.version, settings.built)
        manifest = Manifest(
            schema=SCHEMA,
            product=layout.PRODUCT,
            version=inputs.version,
            sequence=settings.sequence,
            channel=settings.channel,
            min_from_version=settings.min_from_version,
            target=layout.TARGET,
            processor=inputs.processor,
            built=instant_text(settings.built),
            publisher=publisher,
            files=tuple(sorted(entries, key=lambda entry: entry.path)),
        )
        check_entries(manifest.files)
        data = encode_manifest(manifest)
        _write(partial / layout.MANIFEST, data)
        metadata = signed_metadata.release_metadata(
            data, release, sequence=settings.sequence, built=settings.built, root=roots[-1]
        )
        for name, content in metadata.items():
            _write(partial / layout.METADATA / name, content)
        _write_sums(partial, manifest, signer, settings.built)
        found = prove(partial, inputs.packages) if prove else None
        partial.rename(out)
        fsync_directory(out.absolute().parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Built(folder=out, manifest=manifest, manifest_digest=sha256_hex(data), packages=found)


def _copy(folder: Path, inputs: Inputs, out: Path) -> dict[str, Described]:
    """Copy the collected tree. Raises IntegrityFailure when it is not what its description says."""
    tree = tree_of(folder)
    present = scan(tree)
    if odd := sorted(present.keys() ^ inputs.files.keys()):
        raise IntegrityFailure(
            "bundle.inputs", f"{tree} and its description differ in {odd[0]}.", hint="Collect again."
        )
    for path in present:
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / path, target)
        target.chmod(0o644)
    return dict(inputs.files)


def _add_trust(out: Path, keys: KeyFolder, roots: list[bytes]) -> dict[str, Described]:
    """Lay the public key and every root.json."""
    described = Described(kind=Kind.BOOTSTRAP, origin=Origin(given="publisher"))
    _write(out / layout.PUBLISHER, keys.publisher_public.read_bytes())
    for version, root in enumerate(roots, start=1):
        _write(out / layout.METADATA / f"{version}.root.json", root)
    names = [f"{layout.METADATA}/{version}.root.json" for version in range(1, len(roots) + 1)]
    return dict.fromkeys([layout.PUBLISHER, *names], described)


def _sign_archive(
    out: Path, inputs: Inputs, signer: Signer, settings: Settings, report: Report
) -> dict[str, Described]:
    folder = out / layout.APT
    files = [Path(path).name for path, what in inputs.files.items() if what.kind is Kind.PACKAGE]
    sizes = {name: (folder / name).stat().st_size for name in files}
    digests = hash_files(folder, sizes, what="packages", report=report)
    packages = [debian_archive.read_package(folder / name) for name in files]
    index = debian_archive.packages_index(packages, sizes, digests)
    indexes = {"Packages": index, "Packages.gz": gzip.compress(index, 9, mtime=0)}
    release = debian_archive.release_file(indexes, date=settings.built, version=inputs.version)
    made = {**indexes, "Release": release, "InRelease": signer.clear_sign(release)}
    for name, data in made.items():
        _write(folder / name, data)
    described = Described(kind=Kind.PACKAGE_INDEX, origin=Origin(given=layout.PRODUCT))
    return dict.fromkeys((f"{layout.APT}/{name}" for name in made), described)


def _entries(out: Path, described: dict[str, Described], part_size: int | None, report: Report) -> list[Entry]:
    present = scan(out)
    digests = hash_files(out, present, what="files", report=report)
    entries = []
    for path, size in present.items():
        what = described[path]
        parts: tuple[Part, ...] = ()
        if part_size is not None and size > part_size:
            if what.kind is not Kind.MODEL or part_size < SMALLEST_PART:
                raise BadInput(
                    "bundle.part_size",
                    f"{path} has {size} bytes; only models may come in parts, of {SMALLEST_PART} bytes or more.",
                    hint="Give a larger --part-size; FAT holds files below 4 GiB.",
                )
            parts = split_file(out, path, part_size)
        entries.append(
            Entry(
                path=path,
                size=size,
                sha256=digests[path],
                kind=what.kind,
                origin=what.origin,
                licence=what.licence,
                parts=parts,
            )
        )
    return entries


def _bills(out: Path, entries: list[Entry], version: str, built: datetime) -> list[Entry]:
    made = []
    ordered = sorted(entries, key=lambda entry: entry.path)
    for name, data in sbom.bills(ordered, version=version, built=built).items():
        path = f"{layout.SBOM}/{name}"
        _write(out / path, data)
        made.append(
            Entry(
                path=path,
                size=len(data),
                sha256=sha256_hex(data),
                kind=Kind.SBOM,
                origin=Origin(given=layout.PRODUCT),
            )
        )
    return made


def _write_sums(out: Path, manifest: Manifest, signer: Signer, built: datetime) -> None:
    digests: dict[str, str] = {}
    for entry in manifest.files:
        pieces = entry.parts or (entry,)
        digests |= {piece.path: piece.sha256 for piece in pieces}
    for path in sorted(layout.SIGNED_APART - {layout.SUMS, layout.SUMS_SIGNATURE}):
        digests[path] = sha256_hex((out / path).read_bytes())
    data = sums.write_sums(
        digests,
        version=manifest.version,
        sequence=manifest.sequence,
        built=built,
        expires=built + signed_metadata.VALID,
    )
    _write(out / layout.SUMS, data)
    _write(out / layout.SUMS_SIGNATURE, signer.detach_sign(data))


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    file.chmod(0o644)
