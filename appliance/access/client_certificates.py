"""Certificates that clients show to the gateway, and the list of those that count no longer.

The register (`authority/clients.json`) names every certificate that was issued; the revocation list is made from it
anew at each renewal, because a list that has ended lets nobody in (RFC 5280, 5.1.2.5). Optional: the gateway asks for
them only where the setting `client_authorities` is set.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.access.box_tls import BoxTls
from appliance.kernel.clock import from_text, to_text, utc_now
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, storage_errors
from appliance.kernel.private import read_private, write_private

LIFETIME: Final = timedelta(days=90)
LIST_LIFETIME: Final = timedelta(days=7)
_LIST_RENEWED_AFTER: Final = timedelta(days=1)
_LIST_BACKDATED: Final = timedelta(days=1)
_CLOCK_SKEW: Final = timedelta(days=1)


class ClientEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One issued certificate."""

    name: str
    serial: str
    """decimal text: serials have 160 bits"""
    not_after: str
    revoked_at: str = ""


def issue_client(box: BoxTls, name: str, out: Path, *, now: datetime | None = None) -> ClientEntry:
    """Issue a certificate for `name` and write it with its key to `out` (0600). Raises Conflict when `out` exists."""
    now = now or utc_now()
    if not name or len(name) > 64 or not name.isprintable():
        raise BadInput("tls.client_name", f"{name!r} cannot name a client: 1 to 64 printable characters.")
    if out.exists():
        raise Conflict("tls.file_exists", f"{out} exists; a key file is never overwritten.", hint="Give a new name.")
    known = read_register(box)
    if any(entry.name == name and not entry.revoked_at and from_text(entry.not_after) > now for entry in known):
        raise Conflict(
            "tls.client_exists",
            f"{name} has a certificate already.",
            hint=f"Revoke it first: intramuros tls revoke {name}",
        )
    authority, signer = _authority(box)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _client_certificate(name, key, authority, signer, now)
    entry = ClientEntry(name=name, serial=str(leaf.serial_number), not_after=to_text(leaf.not_valid_after_utc))
    with storage_errors(f"writing {out}"):
        _write_register(box, (*known, entry))  # first: what was issued is known, even when the key was never handed out
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(out, text + leaf.public_bytes(Encoding.PEM))
        publish_revocations(box, now=now, force=True)
    return entry


def revoke_client(box: BoxTls, name: str, *, now: datetime | None = None) -> tuple[ClientEntry, ...]:
    """Revoke every certificate of `name` and publish the list. Raises NotFound."""
    now = now or utc_now()
    known = read_register(box)
    chosen = {entry.serial for entry in known if entry.name == name and not entry.revoked_at}
    if not chosen:
        raise NotFound("tls.client_unknown", f"No valid certificate was issued to {name!r}.")
    marked = tuple(
        msgspec.structs.replace(entry, revoked_at=to_text(now)) if entry.serial in chosen else entry for entry in known
    )
    with storage_errors("writing the register of clients"):
        _write_register(box, marked)
        publish_revocations(box, now=now, force=True)
    return tuple(entry for entry in marked if entry.serial in chosen)


def publish_revocations(box: BoxTls, *, now: datetime | None = None, force: bool = False) -> bool:
    """Write the revocation list unless a fresh one of this authority is there; True when it was written."""
    now = now or utc_now()
    authority, signer = _authority(box)
    if not force and _is_fresh(box.revocations_file, now, signer.public_key()):
        return False
    began = _next_beginning(box.revocations_file, now)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(began)
        .next_update(now + LIST_LIFETIME)
        .add_extension(x509.CRLNumber(int(began.timestamp())), critical=False)
    )
    for entry in read_register(box):
        if entry.revoked_at:
            revoked = x509.RevokedCertificateBuilder().serial_number(int(entry.serial))
            builder = builder.add_revoked_certificate(revoked.revocation_date(from_text(entry.revoked_at)).build())
    text = builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)
    write_file(box.revocations_file, text, mode=0o644, exact=True)
    return True


def read_register(box: BoxTls) -> tuple[ClientEntry, ...]:
    """Return every certificate that was issued to a client, oldest first. Raises IntegrityFailure."""
    path = _register_file(box)
    if not path.exists():
        return ()
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[ClientEntry, ...])
    except msgspec.DecodeError as error:
        raise IntegrityFailure(
            "tls.register", f"{path} is damaged: {error}.", hint="Restore it from a backup."
        ) from error


def _write_register(box: BoxTls, entries: tuple[ClientEntry, ...]) -> None:
    write_file(_register_file(box), msgspec.json.encode(entries), mode=0o600)


def _register_file(box: BoxTls) -> Path:
    return Path(box.authority) / "clients.json"


def _next_beginning(path: Path, now: datetime) -> datetime:
    """Return when the next list begins: a day ago, but always later than the list before.

    A verifier that holds several lists takes the one that began last, and times have whole seconds: two revocations in
    one second must not look alike. A list that begins in the future would let nobody in.
    """
    before = _present_list(path)
    began = now - _LIST_BACKDATED
    return began if before is None else max(began, min(now, before.last_update_utc + timedelta(seconds=1)))


def _is_fresh(path: Path, now: datetime, signer: ec.EllipticCurvePublicKey) -> bool:
    found = _present_list(path)
    if found is None or found.next_update_utc is None or not found.is_signature_valid(signer):
        return False
    return found.last_update_utc <= now < found.next_update_utc - LIST_LIFETIME + _LIST_RENEWED_AFTER


def _present_list(path: Path) -> x509.CertificateRevocationList | None:
    try:
        return x509.load_pem_x509_crl(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _authority(box: BoxTls) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    folder = box.folder
    if not folder.authority_certificate.exists():
        raise Conflict("tls.no_authority", "This box has no authority of its own.", hint="Run: intramuros tls renew")
    key = load_pem_private_key(read_private(folder.authority_key), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IntegrityFailure("tls.key", f"{folder.authority_key} is not an elliptic-curve key.")
    return x509.load_pem_x509_certificate(folder.authority_certificate.read_bytes()), key


def _client_certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intramuros client"),
                    x509.NameAttribute(NameOID.COMMON_NAME, name),
                ]
            )
        )
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(min(now + LIFETIME, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(signer, hashes.SHA256())
    )
