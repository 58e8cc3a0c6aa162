"""The key that signs this box's evidence: Ed25519, made at first use, mode 0600.

It proves that nobody without root on this box changed the evidence later. Whoever has root can sign anything: keep the
digest of each evidence elsewhere (docs/security/evidence.md).
"""

from __future__ import annotations

from pathlib import Path

from appliance.kernel.errors import IntegrityFailure, NotFound, storage_errors
from appliance.kernel.private import read_private, write_private
from appliance.kernel.signing_key import SigningKey, generate_key, parse_key

PATH = Path("/etc/intramuros/evidence.key")


def load_or_create_key(path: Path) -> tuple[SigningKey, bool]:
    """Return the box's key and whether it was made just now. Raises Forbidden or IntegrityFailure."""
    try:
        pem = read_private(path)
    except NotFound:
        key = generate_key()
        with storage_errors("writing the evidence key"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, key.private_pem)
        return key, True
    try:
        return parse_key(pem), False
    except ValueError as error:
        raise IntegrityFailure("evidence.key_damaged", f"{path} is {error}.") from error
