"""API keys: `im-<id>-<secret>`. The id names the key in logs and tables; only a SHA-256 of the key is ever stored.

A slow password hash would protect nothing here: the secret is 32 bytes from the system's random source, so nobody can
guess it from its digest, and each request of the measured path would pay for it. Comparison takes constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final, NamedTuple

_PREFIX: Final = "im-"
_ID_LENGTH: Final = 8
_ID_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 letters and digits that cannot be mistaken for one another when read aloud"""
_SECRET_BYTES: Final = 32
_SECRET_LENGTH: Final = 43
_KEY_LENGTH: Final = len(_PREFIX) + _ID_LENGTH + 1 + _SECRET_LENGTH
_NO_HASH: Final = "0" * 64


class FreshKey(NamedTuple):
    """A key just made. `secret` is what its owner gets, this once; `hash` is what is stored."""

    id: str
    secret: str
    hash: str


def new_key() -> FreshKey:
    """Make a key from the system's random source."""
    identifier = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    random_part = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    secret = f"{_PREFIX}{identifier}-{random_part}"
    return FreshKey(id=identifier, secret=secret, hash=hash_secret(secret))


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of a whole key text, hexadecimal; the id is part of what is hashed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def id_of(secret: str) -> str | None:
    """Return the id inside a key text, or None when it does not have the form of a key."""
    if len(secret) != _KEY_LENGTH or not secret.startswith(_PREFIX) or not secret.isascii():
        return None
    identifier, separator, _ = secret[len(_PREFIX) :].partition("-")
    return identifier if separator and len(identifier) == _ID_LENGTH else None


def matches(secret: str, stored_hash: str | None) -> bool:
    """Tell in constant time whether a key text belongs to a stored hash; None (no such id) takes as long."""
    same = hmac.compare_digest(hash_secret(secret), stored_hash or _NO_HASH)
    return same and stored_hash is not None
