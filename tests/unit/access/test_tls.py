"""The internal authority and the gateway's certificate."""

from __future__ import annotations

import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from appliance.access.tls import (
    LEAF_LIFETIME,
    authority_fingerprint,
    ensure_authority,
    ensure_leaf,
    leaf_expiry,
)
from appliance.kernel.errors import BadInput, Conflict, Forbidden, IntegrityFailure
from appliance.kernel.paths import StatePaths

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    return StatePaths(tmp_path)


def _authority(paths: StatePaths) -> x509.Certificate:
    return x509.load_pem_x509_certificate(paths.authority_certificate.read_bytes())


def _leaf(paths: StatePaths) -> x509.Certificate:
    return x509.load_pem_x509_certificate(paths.leaf_certificate.read_bytes())


def test_the_authority_signs_leaves_and_nothing_else(paths: StatePaths) -> None:
    assert ensure_authority(paths, NOW)
    certificate = _authority(paths)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert timedelta(days=3650) < certificate.not_valid_after_utc - NOW < timedelta(days=3655)


def test_the_authority_is_made_once(paths: StatePaths) -> None:
    assert ensure_authority(paths, NOW)
    fingerprint = authority_fingerprint(paths)
    assert not ensure_authority(paths, NOW + timedelta(days=400))
    assert authority_fingerprint(paths) == fingerprint


def test_the_leaf_verifies_by_name_and_by_address(paths: StatePaths) -> None:
    assert ensure_leaf(paths, ("ai.example.org", "10.1.2.3", "0.0.0.0", "localhost"), NOW)
    verifier = PolicyBuilder().store(Store([_authority(paths)])).time(NOW)
    for subject in (
        x509.DNSName("localhost"),
        x509.DNSName("ai.example.org"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
        x509.IPAddress(ip_address("10.1.2.3")),
    ):
        verifier.build_server_verifier(subject).verify(_leaf(paths), [])
    with pytest.raises(VerificationError):
        verifier.build_server_verifier(x509.DNSName("evil.example.org")).verify(_leaf(paths), [])
    names = _leaf(paths).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert socket.gethostname().lower() in names.get_values_for_type(x509.DNSName)
    assert ip_address("0.0.0.0") not in names.get_values_for_type(x509.IPAddress)
    assert len(list(names)) == len(set(names))


def test_the_leaf_is_a_server_certificate_of_ninety_days(paths: StatePaths) -> None:
    ensure_leaf(paths, (), NOW)
    leaf = _leaf(paths)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    own = _authority(paths).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == own.digest
    assert leaf_expiry(paths) == NOW + LEAF_LIFETIME


def test_the_leaf_is_renewed_when_and_only_when_needed(paths: StatePaths) -> None:
    assert ensure_leaf(paths, ("a.example",), NOW)
    assert not ensure_leaf(paths, ("a.example",), NOW + timedelta(days=59))
    assert ensure_leaf(paths, ("b.example",), NOW + timedelta(days=59))
    assert ensure_leaf(paths, ("b.example",), NOW + timedelta(days=59 + 60, seconds=1))
    assert not ensure_leaf(paths, ("b.example",), NOW + timedelta(days=120))


def test_a_new_authority_means_a_new_leaf(paths: StatePaths) -> None:
    ensure_leaf(paths, (), NOW)
    paths.authority_certificate.unlink()
    paths.authority_key.unlink()
    assert ensure_leaf(paths, (), NOW)
    _leaf(paths).verify_directly_issued_by(_authority(paths))


def test_a_leaf_that_a_crash_left_without_its_key_is_repaired(paths: StatePaths, tmp_path: Path) -> None:
    ensure_leaf(paths, (), NOW)
    other = StatePaths(tmp_path / "other")
    ensure_leaf(other, (), NOW)
    other.leaf_key.replace(paths.leaf_key)  # the new key was written, the certificate not yet
    assert ensure_leaf(paths, (), NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.leaf_certificate, paths.leaf_key)


def test_an_authority_whose_certificate_was_not_written_is_completed(paths: StatePaths) -> None:
    ensure_authority(paths, NOW)
    key = paths.authority_key.read_bytes()
    paths.authority_certificate.unlink()
    assert ensure_authority(paths, NOW)
    assert paths.authority_key.read_bytes() == key


def test_a_damaged_leaf_is_replaced_but_a_damaged_authority_is_not(paths: StatePaths) -> None:
    ensure_leaf(paths, (), NOW)
    paths.leaf_certificate.write_bytes(b"garbage")
    assert ensure_leaf(paths, (), NOW)
    paths.authority_certificate.write_bytes(b"garbage")
    with pytest.raises(IntegrityFailure) as caught:
        ensure_leaf(paths, (), NOW)
    assert caught.value.code == "tls.certificate"


def test_a_lost_a_foreign_or_an_ended_authority_is_told(paths: StatePaths, tmp_path: Path) -> None:
    ensure_authority(paths, NOW)
    with pytest.raises(Conflict) as ended:
        ensure_authority(paths, NOW + timedelta(days=4000))
    assert ended.value.code == "tls.authority_expired"
    other = StatePaths(tmp_path / "other")
    ensure_authority(other, NOW)
    other.authority_key.replace(paths.authority_key)
    with pytest.raises(IntegrityFailure):
        ensure_authority(paths, NOW)
    paths.authority_key.unlink()
    with pytest.raises(Conflict) as lost:
        ensure_authority(paths, NOW)
    assert lost.value.code == "tls.authority_key_missing"


def test_private_keys_are_private(paths: StatePaths) -> None:
    before = os.umask(0)
    try:
        ensure_leaf(paths, (), NOW)
    finally:
        os.umask(before)
    assert {key.stat().st_mode & 0o777 for key in (paths.authority_key, paths.leaf_key)} == {0o600}
    assert paths.secrets.stat().st_mode & 0o777 == 0o700
    paths.authority_key.chmod(0o604)
    with pytest.raises(Forbidden) as caught:
        ensure_leaf(paths, (), NOW)
    assert caught.value.code == "private.mode"


@pytest.mark.parametrize("name", ["", "two words", "a..b", "*.example.org", "x" * 300])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(paths: StatePaths, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        ensure_leaf(paths, (name,), NOW)
    assert caught.value.code == "tls.name"
