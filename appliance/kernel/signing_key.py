"""An Ed25519 key pair that signs what the appliance records: checkpoints of the audit trail, evidence of the hardening.

Where its file lies, and who may have read it, is the business of whoever keeps it.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair. Its printed form shows nothing of the private half."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public_bytes(self) -> bytes:
        """The 32 raw bytes of the public key."""
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def public_base64(self) -> str:
        """The public key as signed records name it."""
        return base64.b64encode(self.public_bytes).decode("ascii")

    @property
    def public_pem(self) -> str:
        """The public key as a PEM file, for openssl and for a verifier's --public-key."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    @property
    def private_pem(self) -> bytes:
        """The private key as the content of its file (PKCS #8, not encrypted)."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def key_id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the raw public key."""
        return hashlib.sha256(self.public_bytes).hexdigest()[:16]

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature (RFC 8032)."""
        return self.private.sign(message)


def generate_key() -> SigningKey:
    """Make a new key pair."""
    return SigningKey(Ed25519PrivateKey.generate())


def parse_key(pem: bytes) -> SigningKey:
    """Read the content of a key file. Raises ValueError that says what it is not."""
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("not a private key in PEM") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 key")
    return SigningKey(private)
