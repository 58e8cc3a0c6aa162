"""Where what lies in a bundle, and which names a bundle may contain at all.

A name is accepted from a closed set of characters: it then means the same file on ext4, FAT and ISO 9660, starts no
option, hides nothing and leaves no folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from appliance.kernel.errors import IntegrityFailure

PRODUCT = "intramuros"
TARGET = "debian12"

APT = "apt"
WHEELS = "wheels"
REQUIREMENTS = "requirements"
PLAYBOOKS = "playbooks"
CONVERTER = "converter"
MODELS = "models"
SBOM = "sbom"
LICENCES = "LICENSES"
BOOTSTRAP = "bootstrap"

METADATA = "tuf/metadata"
MANIFEST = "tuf/targets/manifest.json"
SUMS = "bootstrap/SHA256SUMS"
SUMS_SIGNATURE = "bootstrap/SHA256SUMS.gpg"
PUBLISHER = "bootstrap/publisher.gpg"
INSTALL = "bootstrap/install.sh"

LONGEST_PATH = 240
_SEGMENT = re.compile(r"[A-Za-z0-9_+~][A-Za-z0-9._+~@=-]{0,150}")
SIGNED_APART = frozenset(
    {
        f"{METADATA}/timestamp.json",
        f"{METADATA}/snapshot.json",
        f"{METADATA}/targets.json",
        MANIFEST,
        SUMS,
        SUMS_SIGNATURE,
    }
)
"""Signed by themselves, or a signature: the manifest cannot list them, and a bundle holds every one of them."""


def check_path(path: str) -> str:
    """Return a bundle's path unchanged. Raises IntegrityFailure when it could leave the bundle or mislead anybody."""
    segments = path.split("/")
    fine = len(path) <= LONGEST_PATH and all(_SEGMENT.fullmatch(part) and not part.endswith(".") for part in segments)
    if not fine:
        raise IntegrityFailure(
            "bundle.path",
            f"The name {path[:LONGEST_PATH]!r} is not allowed in a bundle.",
            hint="Allowed are relative names of letters, digits and ._+~@=- that begin with no dot and no dash.",
        )
    return path


def check_twins(paths: Iterable[str]) -> None:
    """Raise IntegrityFailure when two names are one on a medium that ignores case, or a file is also a folder."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        for length in range(1, len(parts)):
            folder = "/".join(parts[:length])
            key = folder.casefold()
            known = files.get(key) or folders.setdefault(key, folder)
            if key in files or known != folder:
                raise _twins(folder, known)
        key = path.casefold()
        other = files.get(key) or folders.get(key)
        if other is not None:
            raise _twins(path, other)
        files[key] = path


def _twins(one: str, other: str) -> IntegrityFailure:
    return IntegrityFailure(
        "bundle.case_twin",
        f"{one} and {other} are one name on a medium that ignores upper and lower case, or both file and folder.",
    )
