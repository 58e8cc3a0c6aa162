"""The bill of materials: three CycloneDX 1.6 documents, for Debian packages, Python distributions and models.

Written by cyclonedx-python-lib and made reproducible: the serial number is derived from the content, the time is the
bundle's date.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from appliance.kernel.canonical import digest_of
from installer.bundle.manifest import Entry, Kind

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:intramuros:bundle:sbom")
_FILES: Mapping[str, Kind] = {"host": Kind.PACKAGE, "python": Kind.WHEEL, "models": Kind.MODEL}


def bills(entries: Iterable[Entry], *, version: str, built: datetime) -> dict[str, bytes]:
    """Return file name -> document for the entries of a bundle."""
    listed = list(entries)
    return {
        f"{name}.cdx.json": _bill(name, [entry for entry in listed if entry.kind is kind], version, built)
        for name, kind in _FILES.items()
    }


def _bill(name: str, entries: list[Entry], version: str, built: datetime) -> bytes:
    subject = Component(name=f"intramuros-bundle-{name}", version=version, type=ComponentType.APPLICATION, bom_ref=name)
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, digest_of([name, version, [[e.path, e.sha256] for e in entries]])),
        metadata=BomMetaData(timestamp=built, component=subject),
        components=[_component(entry) for entry in entries],
    )
    bom.metadata.tools.components.clear()
    bom.metadata.tools.tools.clear()
    bom.register_dependency(subject, bom.components)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    document = json.loads(text)
    document.get("metadata", {}).pop("tools", None)
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _component(entry: Entry) -> Component:
    match entry.kind:
        case Kind.PACKAGE:
            name, version = entry.origin.package, entry.origin.version
            purl = PackageURL("deb", "debian", name, version)
            kind = ComponentType.LIBRARY
        case Kind.WHEEL:
            name, _, version = entry.origin.pypi.partition("==")
            purl = PackageURL("pypi", None, name, version)
            kind = ComponentType.LIBRARY
        case _:
            name, version = entry.origin.given, ""
            purl = PackageURL("generic", None, name)
            kind = ComponentType.MACHINE_LEARNING_MODEL
    return Component(
        name=name,
        version=version or None,
        type=kind,
        bom_ref=entry.path,
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry.sha256)],
        licenses=[DisjunctiveLicense(name=entry.licence)] if entry.licence else None,
        properties=[Property(name="intramuros:path", value=entry.path)],
    )
