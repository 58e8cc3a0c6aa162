"""The bill of materials: valid CycloneDX, complete, and the same bytes for the same bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from installer.bundle import layout
from installer.bundle.manifest import Kind, decode_manifest
from installer.bundle.sbom import bills
from tests.factories.bundle import BUILT


@pytest.mark.parametrize(
    ("name", "kind", "prefix"),
    [("host", Kind.PACKAGE, "pkg:deb/debian/"), ("python", Kind.WHEEL, "pkg:pypi/"), ("models", Kind.MODEL, "pkg:gen")],
)
def test_each_file_with_its_digest(name: str, kind: Kind, prefix: str, pristine: Path) -> None:
    manifest = decode_manifest((pristine / layout.MANIFEST).read_bytes())
    text = (pristine / "sbom" / f"{name}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    listed = {component["bom-ref"]: component for component in document["components"]}
    wanted = {entry.path: entry for entry in manifest.files if entry.kind is kind}
    assert listed.keys() == wanted.keys()
    for path, component in listed.items():
        assert component["hashes"] == [{"alg": "SHA-256", "content": wanted[path].sha256}]
        assert component["purl"].startswith(prefix)
        assert component["licenses"]


def test_same_bundle_same_bytes(pristine: Path) -> None:
    manifest = decode_manifest((pristine / layout.MANIFEST).read_bytes())
    entries = [entry for entry in manifest.files if entry.kind is not Kind.SBOM]
    for name, data in bills(entries, version="0.1.0", built=BUILT).items():
        assert data == (pristine / "sbom" / name).read_bytes()
    other = bills(entries[1:], version="0.1.0", built=BUILT)
    serials = {json.loads(data)["serialNumber"] for data in other.values()}
    assert len(serials) == 3
