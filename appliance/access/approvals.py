"""Approvals by signature: an enrolled person's Ed25519 key over a canonical statement.

The statement names the model's digest, the stage and this appliance, so a signature cannot be used for another model,
another stage or another box. Private keys stay with their person: the appliance sees public keys and signatures.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import fsync_directory
from appliance.kernel.errors import BadInput, Conflict, Forbidden, storage_errors
from appliance.kernel.private import PRIVATE_MODE, read_private


def statement(model_digest: str, stage: str, instance_id: str) -> bytes:
    """Return the bytes an approver signs: canonical JSON with a domain of its own."""
    return canonical_json(
        {
            "statement": "intramuros/approval/v1",
            "model_digest": model_digest,
            "stage": stage,
            "instance": instance_id,
        }
    )


def create_approver_key(path: Path) -> str:
    """Make a private key at `path` (0600) and return its public key, base64. Raises Conflict if the file exists."""
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE)
    except FileExistsError as error:
        raise Conflict(
            "approval.key_exists",
            f"{path} exists already; an approver's key is never overwritten.",
            hint="Choose another file name, or enrol the public key of the one that is there.",
        ) from error
    except OSError as error:
        raise BadInput("approval.key_path", f"Cannot create {path}: {error.strerror}.") from error
    with storage_errors("writing an approver's key"), os.fdopen(descriptor, "wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
        fsync_directory(path.parent)
    return _public_text(key)


def public_key_of(private_key_path: Path) -> str:
    """Return the public half of a private key file, base64. Raises NotFound, Forbidden or BadInput."""
    return _public_text(_load_private(private_key_path))


def sign(private_key_path: Path, signed_statement: bytes) -> str:
    """Return the base64 signature of a statement. Raises NotFound, Forbidden (mode, owner) or BadInput (no key)."""
    return base64.b64encode(_load_private(private_key_path).sign(signed_statement)).decode()


def verify(public_key: str, signed_statement: bytes, signature: str) -> None:
    """Return only if the signature is right. Raises BadInput (not base64, no key) or Forbidden (does not match)."""
    key = parse_public_key(public_key)
    raw = _decode(signature, "signature", length=64)
    try:
        key.verify(raw, signed_statement)
    except InvalidSignature as error:
        raise Forbidden(
            "approval.signature",
            "The signature does not belong to this approver, model, stage and appliance.",
            hint="Sign again with the enrolled key; the statement changes with every model and stage.",
        ) from error


def parse_public_key(public_key: str) -> Ed25519PublicKey:
    """Parse a base64 public key. Raises BadInput."""
    return Ed25519PublicKey.from_public_bytes(_decode(public_key, "public key", length=32))


def _load_private(path: Path) -> Ed25519PrivateKey:
    data = read_private(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise BadInput("approval.key", f"{path} is not an unencrypted PEM private key.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput("approval.key", f"{path} is a private key, but not an Ed25519 one.")
    return key


def _public_text(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _decode(text: str, what: str, *, length: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("approval.encoding", f"The {what} is not base64.") from error
    if len(raw) != length:
        raise BadInput("approval.encoding", f"The {what} has {len(raw)} bytes; Ed25519 has {length}.")
    return raw
