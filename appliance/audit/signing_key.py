"""The key that signs audit checkpoints: one Ed25519 private key in a PEM file of mode 0600.

Knows nothing of events. A key file that group or others may touch is refused, never repaired: it may be known.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, storage_errors
from appliance.kernel.signing_key import SigningKey, generate_key, parse_key


def create_signing_key(path: Path) -> SigningKey:
    """Create a key and its file. Raises Conflict when there is one: a trail is never re-keyed by accident."""
    if path.exists():
        raise Conflict("audit.key_exists", f"The audit signing key {path} exists already and is not replaced.")
    key = generate_key()
    with storage_errors("writing the audit signing key"):
        write_file(path, key.private_pem, mode=0o600)
    return key


def load_signing_key(path: Path) -> SigningKey:
    """Read a key file. Raises NotFound, BadInput (mode too wide) or IntegrityFailure (not an Ed25519 key)."""
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            pem = stream.read()
    except FileNotFoundError as error:
        raise NotFound(
            "audit.no_key",
            f"The audit signing key {path} is missing.",
            hint="Restore it from a backup; a new key would break the trail.",
        ) from error
    if mode & 0o077:
        raise BadInput(
            "audit.key_mode",
            f"The audit signing key {path} has mode {mode:04o}; only its owner may have access.",
            hint=f"Find out who could have read it, then run: chmod 600 {path}",
        )
    try:
        return parse_key(pem)
    except ValueError as error:
        raise IntegrityFailure("audit.key_damaged", f"{path} is {error}.") from error
