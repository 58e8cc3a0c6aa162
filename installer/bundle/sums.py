"""bootstrap/SHA256SUMS: the list that `install.sh` checks with sha256sum and gpgv before there is any Python.

It names every file of the medium but itself and its signature. Its head carries what the script must know before it
trusts a line: sequence, version and expiry.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from appliance.kernel.errors import IntegrityFailure
from installer.bundle.manifest import instant_text

FORMAT = "intramuros-bundle 1"


def write_sums(digests: Mapping[str, str], *, version: str, sequence: int, built: datetime, expires: datetime) -> bytes:
    """Return the list for these path -> SHA-256."""
    head = [
        f"# {FORMAT}",
        f"# version {version}",
        f"# sequence {sequence}",
        f"# built {instant_text(built)}",
        f"# expires {instant_text(expires)}",
    ]
    return "\n".join([*head, *(f"{digests[path]}  {path}" for path in sorted(digests)), ""]).encode()


def parse_sums(data: bytes) -> dict[str, str]:
    """Return path -> SHA-256. Raises IntegrityFailure."""
    found: dict[str, str] = {}
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise IntegrityFailure("bundle.altered", "bootstrap/SHA256SUMS is not plain text.") from error
    if lines[:1] != [f"# {FORMAT}"]:
        raise IntegrityFailure("bundle.altered", "bootstrap/SHA256SUMS does not begin as it must.")
    for line in lines:
        if line.startswith("#"):
            continue
        digest, separator, path = line.partition("  ")
        if len(digest) != 64 or not separator or path in found:
            raise IntegrityFailure("bundle.altered", f"bootstrap/SHA256SUMS has a line that is none of ours: {line!r}.")
        found[path] = digest
    return found
