"""Canonical JSON and SHA-256 digests: the identity of every spec, manifest and audit event.

Canonical form: keys sorted by code point, no white space, UTF-8, no NaN or infinity (the subset of RFC 8785
that Python and our data share). Equal values give equal bytes, therefore equal digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """Return the canonical UTF-8 encoding of a JSON value. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value's canonical form."""
    return sha256_hex(canonical_json(value))


def sha256_file(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file, read in 1 MiB pieces; `on_bytes` receives each piece's size."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
    return digest.hexdigest()
