"""What a bundle says it holds, for people. Nothing here is verified; `verify` is another verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.kernel.errors import NotFound
from appliance.kernel.terminal import size_text, table
from installer.bundle.layout import MANIFEST
from installer.bundle.manifest import Entry, Kind, Manifest, decode_manifest
from installer.bundle.signed_manifest import read_small

_LARGEST = 64 << 20


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle without believing it. Raises NotFound, IntegrityFailure."""
    try:
        return decode_manifest(read_small(folder / MANIFEST, limit=_LARGEST))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound("bundle.not_found", f"{folder} is no bundle: it has no {MANIFEST}.") from error


def describe(manifest: Manifest) -> dict[str, Any]:
    """Return the summary as plain data."""
    return {
        "version": manifest.version,
        "sequence": manifest.sequence,
        "channel": manifest.channel,
        "built": manifest.built,
        "target": manifest.target,
        "processor": manifest.processor,
        "publisher": manifest.publisher,
        "min_from_version": manifest.min_from_version,
        "files": len(manifest.files),
        "bytes": manifest.total_size,
        "kinds": {
            kind.value: {"files": len(found), "bytes": sum(entry.size for entry in found)}
            for kind in Kind
            if (found := _of(manifest, kind))
        },
        "models": [{"path": entry.path, "bytes": entry.size, "licence": entry.licence} for entry in _models(manifest)],
    }


def summary(manifest: Manifest, *, list_files: bool) -> str:
    """Return the summary for people."""
    head = [
        f"Intramuros {manifest.version}, bundle number {manifest.sequence}, channel {manifest.channel}",
        f"built {manifest.built} for {manifest.target}, processors {manifest.processor} and newer",
        f"publisher {manifest.publisher}",
        f"updates version {manifest.min_from_version} and newer",
        "",
    ]
    rows = [
        (kind.value, str(len(found)), size_text(sum(entry.size for entry in found)))
        for kind in Kind
        if (found := _of(manifest, kind))
    ]
    rows.append(("all", str(len(manifest.files)), size_text(manifest.total_size)))
    lines = [*head, table(("KIND", "FILES", "SIZE"), rows, empty="")]
    models = [
        (entry.path, size_text(entry.size), entry.licence, str(len(entry.parts) or "")) for entry in _models(manifest)
    ]
    lines += ["", table(("MODEL", "SIZE", "LICENCE", "PARTS"), models, empty="no model")]
    if list_files:
        files = [
            (entry.path, size_text(entry.size), _origin(entry), entry.licence.partition("\n")[0])
            for entry in manifest.files
        ]
        lines += ["", table(("FILE", "SIZE", "ORIGIN", "LICENCE"), files, empty="")]
    lines += ["", "This is what the bundle says of itself. To check it: intramuros bundle verify FOLDER"]
    return "\n".join(lines)


def _of(manifest: Manifest, kind: Kind) -> list[Entry]:
    return [entry for entry in manifest.files if entry.kind is kind]


def _models(manifest: Manifest) -> list[Entry]:
    return _of(manifest, Kind.MODEL)


def _origin(entry: Entry) -> str:
    origin = entry.origin
    if origin.package:
        return f"{origin.apt or 'given'} {origin.package} {origin.version}"
    return origin.pypi or origin.given
