"""The certificates of a box: an authority that root alone can use, and one file that the gateway's user alone can read.

    authority/   root, 0700: the authority's key, its register of clients, the leaf as it was issued
    edge/        what the gateway reads: gateway.pem (key, certificate, chain; replaced in one rename),
                 gateway.crt (the same without the key), clients.crl
    public/      ca.crt, which clients must trust; for everybody

Two modes: `internal` issues and renews the leaf; `provided` takes one of the organisation's authority and checks it.
"""

from __future__ import annotations

import ipaddress
import pwd
import stat
import tomllib
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.access.tls import ensure_authority, ensure_leaf, names_of, public_part
from appliance.kernel.clock import utc_now
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, storage_errors
from appliance.kernel.paths import StatePaths
from appliance.kernel.private import read_private

_LEAST_RSA_BITS: Final = 2048
_ENDS_SOON: Final = timedelta(days=21)


class BoxTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tls.toml`, written by the installer."""

    mode: Literal["internal", "provided"] = "internal"
    names: tuple[str, ...] = ()
    """DNS names and addresses that clients use; localhost and the host name are always in"""
    authority: str = "/srv/intramuros/authority"
    edge: str = "/srv/intramuros/edge"
    public: str = "/etc/intramuros/tls"
    owner: str = "intramuros-gw"
    """user of the gateway"""

    @property
    def folder(self) -> StatePaths:
        """The authority's own folder, laid out like the secrets of a state directory."""
        return StatePaths(Path(self.authority))

    @property
    def gateway_file(self) -> Path:
        return Path(self.edge) / "gateway.pem"

    @property
    def revocations_file(self) -> Path:
        return Path(self.edge) / "clients.crl"

    @property
    def public_authority(self) -> Path:
        return Path(self.public) / "ca.crt"


class TlsView(msgspec.Struct, frozen=True, kw_only=True):
    """What `intramuros tls show` says."""

    mode: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: str
    not_after: str
    days_left: int
    fingerprint: str
    authority_file: str
    authority_fingerprint: str
    authority_not_after: str
    attention: tuple[str, ...] = ()


def read_config(path: Path) -> BoxTls:
    """Read a box's `tls.toml`. Raises NotFound or BadInput."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=BoxTls)
    except FileNotFoundError as error:
        raise NotFound(
            "tls.no_box",
            f"{path} does not exist: this is no installed box.",
            hint="An embedded appliance renews its certificate when it starts.",
        ) from error
    except (msgspec.DecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput("tls.config", f"{path}: {error}.") from error


def renew(box: BoxTls, *, force: bool = False, now: datetime | None = None) -> bool:
    """Issue the leaf unless a good one is there, and publish it; True when anything changed.

    A clock that stands before the authority's birth or after its end issues nothing: what is there stays in force.
    """
    now = now or utc_now()
    if box.mode == "provided":
        view = show(box, now=now)
        if view.days_left < 0:
            raise Conflict(
                "tls.expired",
                f"The provided certificate ended on {view.not_after}.",
                hint="Import its successor: intramuros tls import --certificate FILE --key FILE",
            )
        return False
    folder = box.folder
    with storage_errors(f"renewing the certificate in {folder.root}"):
        ensure_authority(folder, now)
        _require_plausible_clock(folder, now)
        if force:
            folder.leaf_certificate.unlink(missing_ok=True)
        ensure_leaf(folder, box.names, now)
        leaf = folder.leaf_certificate.read_bytes()
        changed = _publish(box, key=read_private(folder.leaf_key), certificates=leaf)
        return _publish_authority(box, folder.authority_certificate.read_bytes()) or changed


def import_provided(
    box: BoxTls, *, certificate: Path, key: Path, chain: Path | None = None, now: datetime | None = None
) -> bool:
    """Take a certificate of another authority, after every check that can be made here; True when anything changed."""
    now = now or utc_now()
    if box.mode != "provided":
        raise Conflict(
            "tls.internal",
            "This box issues its certificate itself, and the next renewal would undo an import.",
            hint='Write mode = "provided" into the answers ([tls]) and install again.',
        )
    private = _private_key(read_private(key), key)
    certificates = [*_certificates(certificate), *(_certificates(chain) if chain else ())]
    leaf = certificates[0]
    if _public(leaf.public_key()) != _public(private.public_key()):
        raise BadInput("tls.provided", f"{key} is not the key of {certificate}.", hint="Give the pair that belongs.")
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        raise BadInput(
            "tls.provided",
            f"{certificate} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}, "
            f"and this machine's clock says {now:%Y-%m-%d}.",
        )
    _require_server(leaf, certificate)
    _require_chain(certificates, certificate, now)
    if missing := [name for name in box.names if not covers(leaf, name)]:
        raise BadInput(
            "tls.provided",
            f"{certificate} does not name {', '.join(missing)}, which clients use.",
            hint="Order a certificate with these names, or take them out of the answers ([tls] names).",
        )
    text = b"".join(found.public_bytes(Encoding.PEM) for found in certificates)
    anchor = certificates[-1].public_bytes(Encoding.PEM)
    with storage_errors(f"publishing {certificate}"):
        changed = _publish(box, key=_pem(private), certificates=text)
        return _publish_authority(box, anchor) or changed


def show(box: BoxTls, now: datetime | None = None) -> TlsView:
    """Return what the gateway proves itself with now. Raises NotFound before the first renewal or import."""
    now = now or utc_now()
    public = public_part(box.gateway_file)
    if not public.exists():
        raise NotFound("tls.none", f"There is no certificate in {box.edge} yet.", hint="Run: intramuros tls renew")
    leaf = _certificates(public)[0]
    anchor = _certificates(box.public_authority)[0]
    left = leaf.not_valid_after_utc - now
    attention = [f"it ends in {left.days} days"] if left < _ENDS_SOON else []
    attention += [f"it does not name {name}" for name in box.names if not covers(leaf, name)]
    return TlsView(
        mode=box.mode,
        subject=leaf.subject.rfc4514_string(),
        issuer=leaf.issuer.rfc4514_string(),
        names=names_of(leaf),
        not_before=f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        not_after=f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        days_left=left.days,
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(":").upper(),
        authority_file=str(box.public_authority),
        authority_fingerprint=anchor.fingerprint(hashes.SHA256()).hex(":").upper(),
        authority_not_after=f"{anchor.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        attention=tuple(attention),
    )


def covers(leaf: x509.Certificate, name: str) -> bool:
    """Tell whether a client that uses `name` accepts the certificate (RFC 6125: one label may be a wildcard)."""
    names = {found.lower() for found in names_of(leaf)}
    try:
        return str(ipaddress.ip_address(name)) in names
    except ValueError:
        lowered = name.lower().removesuffix(".")
        return lowered in names or f"*.{lowered.partition('.')[2]}" in names


def _publish(box: BoxTls, *, key: bytes, certificates: bytes) -> bool:
    """Replace the gateway's file in one rename, then the copy without the key, which so tells that the first is done.

    The first is never read back: it belongs to the gateway, and the renewal has no right to other users' files.
    """
    public = public_part(box.gateway_file)
    owner = pwd.getpwnam(box.owner).pw_uid
    if _is_private_of(box.gateway_file, owner) and _content(public) == certificates:
        return False
    write_file(box.gateway_file, key + certificates, mode=0o600, exact=True, owner=owner)
    write_file(public, certificates, mode=0o644, exact=True)
    return True


def _is_private_of(path: Path, owner: int) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == owner and stat.S_IMODE(status.st_mode) == 0o600


def _publish_authority(box: BoxTls, text: bytes) -> bool:
    if _content(box.public_authority) == text:
        return False
    write_file(box.public_authority, text, mode=0o644, exact=True)
    return True


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _require_plausible_clock(folder: StatePaths, now: datetime) -> None:
    authority = _certificates(folder.authority_certificate)[0]
    if now < authority.not_valid_before_utc:
        raise Conflict(
            "tls.clock",
            f"The clock says {now:%Y-%m-%d}; the authority was made on {authority.not_valid_before_utc:%Y-%m-%d}.",
            hint="Set the clock; the certificate that is there stays in use.",
        )


def _require_server(leaf: x509.Certificate, path: Path) -> None:
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise BadInput("tls.provided", f"{path} has an RSA key of {key.key_size} bits; {_LEAST_RSA_BITS} are needed.")
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in uses:
        raise BadInput("tls.provided", f"{path} is not made for servers (its extended key usage says so).")


def _require_chain(certificates: list[x509.Certificate], path: Path, now: datetime) -> None:
    for issuer in certificates[1:]:
        if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
            raise BadInput(
                "tls.provided",
                f"In the chain of {path}, {issuer.subject.rfc4514_string()} is valid from "
                f"{issuer.not_valid_before_utc:%Y-%m-%d} to {issuer.not_valid_after_utc:%Y-%m-%d}: clients refuse it.",
                hint="Ask the authority for its present certificate.",
            )
    for issued, issuer in pairwise(certificates):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise BadInput(
                "tls.provided",
                f"The chain of {path} is broken: {issuer.subject.rfc4514_string()} did not issue "
                f"{issued.subject.rfc4514_string()}.",
                hint="Put the certificates in order: the server's own first, the root last.",
            ) from error


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound("tls.missing", f"The certificate {path} does not exist.") from error
    except ValueError as error:
        raise IntegrityFailure("tls.certificate", f"{path} holds no certificate (PEM).") from error


def _private_key(data: bytes, path: Path) -> PrivateKeyTypes:
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise BadInput(
            "tls.provided", f"{path} is not an unencrypted private key (PEM).", hint="Remove its passphrase first."
        ) from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise BadInput("tls.provided", f"{path} is neither an RSA nor an elliptic-curve key.")
    return key


def _pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(key: object) -> bytes:
    text: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return text
