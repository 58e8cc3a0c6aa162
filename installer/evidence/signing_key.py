"""The key that signs this box's evidence: Ed25519, made at first use, mode 0600.

It proves that nobody without root on this box changed the evidence later. Whoever has root can sign anything: keep the
digest of each evidence elsewhere (docs/security/evidence.md).
"""

from __future__ import annotations

import base64
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

from appliance.kernel.errors import IntegrityFailure, NotFound, storage_errors
from appliance.kernel.private import read_private, write_private
from installer.evidence.verify_evidence import key_id

PATH = Path("/etc/intramuros/evidence.key")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair whose printed form shows nothing of the private half."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public_bytes(self) -> bytes:
        """The 32 raw bytes of the public key."""
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def public_base64(self) -> str:
        """The public key as the evidence names it."""
        return base64.b64encode(self.public_bytes).decode("ascii")

    @property
    def public_pem(self) -> str:
        """The public key for openssl and for the verifier's --public-key."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    @property
    def key_id(self) -> str:
        """Short name of the key."""
        return key_id(self.public_bytes)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature (RFC 8032)."""
        return self.private.sign(message)


def load_or_create_key(path: Path) -> tuple[SigningKey, bool]:
    """Return the box's key and whether it was made just now. Raises Forbidden or IntegrityFailure."""
    try:
        pem = read_private(path)
    except NotFound:
        key = SigningKey(Ed25519PrivateKey.generate())
        text = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with storage_errors("writing the evidence key"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, text)
        return key, True
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise IntegrityFailure("evidence.key_damaged", f"{path} is not a private key in PEM.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise IntegrityFailure("evidence.key_damaged", f"{path} is not an Ed25519 key.")
    return SigningKey(private), False
