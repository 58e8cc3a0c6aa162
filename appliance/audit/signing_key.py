"""The key that signs audit checkpoints: one Ed25519 private key in a PEM file of mode 0600.

Knows nothing of events. A key file that group or others may touch is refused, never repaired: it may be known.
"""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from appliance.audit.verify_audit import key_id
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, storage_errors


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair. Its printed form shows nothing of the private half."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public_bytes(self) -> bytes:
        """The 32 raw bytes of the public key."""
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def public_base64(self) -> str:
        """The public key as it stands in an export's header."""
        return base64.b64encode(self.public_bytes).decode("ascii")

    @property
    def public_pem(self) -> str:
        """The public key as a PEM file, for the auditor's --public-key."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    @property
    def key_id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the raw public key."""
        return key_id(self.public_bytes)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature (RFC 8032)."""
        return self.private.sign(message)


def create_signing_key(path: Path) -> SigningKey:
    """Create a key and its file. Raises Conflict when there is one: a trail is never re-keyed by accident."""
    if path.exists():
        raise Conflict("audit.key_exists", f"The audit signing key {path} exists already and is not replaced.")
    key = SigningKey(Ed25519PrivateKey.generate())
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with storage_errors("writing the audit signing key"):
        write_file(path, pem, mode=0o600)
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
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise IntegrityFailure("audit.key_damaged", f"{path} is not a private key in PEM.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise IntegrityFailure("audit.key_damaged", f"{path} is not an Ed25519 key.")
    return SigningKey(private)
