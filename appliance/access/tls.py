"""The appliance's own certificate authority and the gateway's certificate.

ECDSA P-256 throughout. The authority lives ten years and signs nothing but leaves (path length 0); a leaf lives 90
days and is renewed by `ensure_leaf` before the last 30. Keys are written before certificates, so a crash between the
two leaves a pair that does not match, and the next call repairs it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.kernel.clock import utc_now
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure
from appliance.kernel.paths import StatePaths
from appliance.kernel.private import read_private, write_private

AUTHORITY_LIFETIME: Final = timedelta(days=3652)
LEAF_LIFETIME: Final = timedelta(days=90)
RENEW_BEFORE: Final = timedelta(days=30)
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_CLOCK_SKEW: Final = timedelta(days=1)
"""clients of an isolated network keep their own time"""


def ensure_authority(paths: StatePaths, now: datetime | None = None) -> bool:
    """Create the authority unless it is there; True if created. Raises Conflict, Forbidden or IntegrityFailure."""
    now = now or utc_now()
    paths.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.tls.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not paths.authority_key.exists():
        if paths.authority_certificate.exists():
            raise Conflict(
                "tls.authority_key_missing",
                f"{paths.authority_certificate} is there but its key {paths.authority_key} is not.",
                hint="Restore the key from a backup, or remove the certificate: clients must then trust the new one.",
            )
        write_private(paths.authority_key, _private_text(ec.generate_private_key(ec.SECP256R1())))
    key = _load_key(paths.authority_key)
    if paths.authority_certificate.exists():
        _check_authority(paths, _load_certificate(paths.authority_certificate), key, now)
        return False
    write_file(paths.authority_certificate, _issue_authority(key, now).public_bytes(Encoding.PEM))
    return True


def ensure_leaf(paths: StatePaths, names: Iterable[str], now: datetime | None = None) -> bool:
    """Issue the gateway's certificate unless a good one is there; True when it was issued anew.

    `names` are further DNS names or addresses; localhost, the loopback addresses and this host's name are always in.
    A new key comes with every certificate. Raises BadInput for a name that cannot stand in a certificate.
    """
    now = now or utc_now()
    ensure_authority(paths, now)
    wanted = subject_names(names)
    authority = _load_certificate(paths.authority_certificate)
    if _leaf_is_good(paths, authority, wanted, now):
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _issue_leaf(key, wanted, authority, _load_key(paths.authority_key), now)
    write_private(paths.leaf_key, _private_text(key))
    write_file(paths.leaf_certificate, leaf.public_bytes(Encoding.PEM))
    return True


def subject_names(names: Iterable[str]) -> tuple[x509.GeneralName, ...]:
    """Return the subject alternative names of the leaf, without repetition. Raises BadInput."""
    found: dict[x509.GeneralName, None] = {}
    for text in (*LOOPBACK, socket.gethostname(), *names):
        name = _general_name(text.strip())
        if name is not None:
            found[name] = None
    return tuple(found)


def authority_fingerprint(paths: StatePaths) -> str:
    """Return the authority's SHA-256 fingerprint as `AB:CD:…`, for people to compare."""
    return _load_certificate(paths.authority_certificate).fingerprint(hashes.SHA256()).hex(":").upper()


def leaf_expiry(paths: StatePaths) -> datetime:
    """Return when the gateway's certificate ends, aware, UTC. Raises IntegrityFailure."""
    return certificate_expiry(paths.leaf_certificate)


def certificate_expiry(certificate: Path) -> datetime:
    """Return when the first certificate of a PEM file ends, aware, UTC. Raises OSError or IntegrityFailure."""
    return _load_certificate(certificate).not_valid_after_utc


def certificate_names(certificate: Path) -> tuple[str, ...]:
    """Return the names and addresses of the first certificate of a PEM file. Raises OSError or IntegrityFailure."""
    return names_of(_load_certificate(certificate))


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and addresses that a certificate is good for (RFC 5280, 4.2.1.6)."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found if isinstance(name, (x509.DNSName, x509.IPAddress)))


def public_part(tls_file: Path) -> Path:
    """Return where the certificate of a file with key and certificate lies without the key: beside it, as `.crt`."""
    return tls_file.with_suffix(".crt")


def _general_name(text: str) -> x509.GeneralName | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return x509.DNSName(_dns_name(text))
    # "listen everywhere" (0.0.0.0, ::) is no address that a client could ask for
    return None if address.is_unspecified else x509.IPAddress(address)


def _dns_name(text: str) -> str:
    try:
        name = text.encode("idna").decode().lower()
    except UnicodeError as error:
        raise BadInput("tls.name", f"{text!r} is neither a DNS name nor an address.") from error
    labels = name.removesuffix(".").split(".")
    plain = all(label and set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for label in labels)
    if not plain or len(name) > 253:
        raise BadInput("tls.name", f"{text!r} is neither a DNS name nor an address.")
    return ".".join(labels)


def _leaf_is_good(
    paths: StatePaths, authority: x509.Certificate, wanted: tuple[x509.GeneralName, ...], now: datetime
) -> bool:
    if not (paths.leaf_certificate.exists() and paths.leaf_key.exists()):
        return False
    try:
        leaf = _load_certificate(paths.leaf_certificate)
        key = _load_key(paths.leaf_key)
    except IntegrityFailure:
        return False  # damaged: unlike the authority, a leaf is simply made again
    if leaf.public_key() != key.public_key():
        return False
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc - RENEW_BEFORE:
        return False
    if set(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) != set(wanted):
        return False
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_authority(
    paths: StatePaths, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, now: datetime
) -> None:
    if certificate.public_key() != key.public_key():
        raise IntegrityFailure(
            "tls.authority_mismatch",
            f"{paths.authority_certificate} and {paths.authority_key} do not belong together.",
            hint="Restore both from the same backup.",
        )
    if now >= certificate.not_valid_after_utc:
        raise Conflict(
            "tls.authority_expired",
            f"The authority {paths.authority_certificate} ended on {certificate.not_valid_after_utc:%Y-%m-%d}.",
            hint="Remove its certificate and key to have a new one made; clients must then trust the new one.",
        )


def _issue_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    subject = _common_name(f"Intramuros authority {socket.gethostname()}")
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _issue_leaf(
    key: ec.EllipticCurvePrivateKey,
    names: tuple[x509.GeneralName, ...],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    public = key.public_key()
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name("Intramuros gateway"))
        .issuer_name(authority.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(min(now + LEAF_LIFETIME, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intramuros"),
            x509.NameAttribute(NameOID.COMMON_NAME, text[:64]),  # X.520 allows 64 characters
        ]
    )


def _private_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    data = read_private(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise IntegrityFailure(
            "tls.key", f"{path} is not a private key any more.", hint="Restore it from a backup."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IntegrityFailure("tls.key", f"{path} is not an elliptic-curve key.", hint="Restore it from a backup.")
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise IntegrityFailure(
            "tls.certificate", f"{path} is not a certificate any more.", hint="Restore it from a backup."
        ) from error
