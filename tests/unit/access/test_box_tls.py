"""The certificates of a box: issued or provided, checked before they are published, in one rename."""

from __future__ import annotations

import getpass
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.access.box_tls import BoxTls, covers, import_provided, read_config, renew, show
from appliance.access.tls import public_part
from appliance.kernel.errors import BadInput, Conflict, Forbidden, NotFound
from appliance.kernel.private import write_private

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def _box(folder: Path, *, mode: str = "internal", names: tuple[str, ...] = ("box.example.org",)) -> BoxTls:
    for name in ("authority", "edge", "public"):
        (folder / name).mkdir(exist_ok=True)
    return BoxTls(
        mode="provided" if mode == "provided" else "internal",
        names=names,
        authority=str(folder / "authority"),
        edge=str(folder / "edge"),
        public=str(folder / "public"),
        owner=getpass.getuser(),
    )


@pytest.fixture
def box(tmp_path: Path) -> BoxTls:
    return _box(tmp_path)


def test_one_file_serves_and_only_its_owner_reads_it(box: BoxTls) -> None:
    assert renew(box, now=NOW)
    assert box.gateway_file.stat().st_mode & 0o777 == 0o600
    assert public_part(box.gateway_file).stat().st_mode & 0o777 == 0o644
    assert b"PRIVATE KEY" not in public_part(box.gateway_file).read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(box.gateway_file, box.gateway_file)
    view = show(box, now=NOW)
    assert "box.example.org" in view.names
    assert view.attention == ()
    assert view.authority_file == str(box.public_authority)


def test_a_second_renewal_changes_nothing_and_a_late_one_the_certificate(box: BoxTls) -> None:
    renew(box, now=NOW)
    first = box.gateway_file.read_bytes()
    assert not renew(box, now=NOW + timedelta(days=59))
    assert box.gateway_file.read_bytes() == first
    assert renew(box, now=NOW + timedelta(days=61))
    assert box.gateway_file.read_bytes() != first
    assert renew(box, now=NOW + timedelta(days=61), force=True)


def test_another_name_asks_for_another_certificate(tmp_path: Path, box: BoxTls) -> None:
    renew(box, now=NOW)
    authority = box.public_authority.read_bytes()
    wider = _box(tmp_path, names=("box.example.org", "ai.example.org", "192.0.2.7"))
    assert show(wider, now=NOW).attention == ("it does not name ai.example.org", "it does not name 192.0.2.7")
    assert renew(wider, now=NOW)
    assert show(wider, now=NOW).attention == ()
    assert box.public_authority.read_bytes() == authority


@pytest.mark.parametrize("damage", ["mode", "gone", "copy_gone"])
def test_what_was_changed_by_hand_is_published_again(box: BoxTls, damage: str) -> None:
    renew(box, now=NOW)
    match damage:
        case "mode":
            box.gateway_file.chmod(0o644)
        case "gone":
            box.gateway_file.unlink()
        case _:
            public_part(box.gateway_file).unlink()
    assert renew(box, now=NOW)
    assert box.gateway_file.stat().st_mode & 0o777 == 0o600
    assert not renew(box, now=NOW)


@pytest.mark.parametrize("year", [1970, 2099])
def test_a_wrong_clock_neither_issues_nor_remakes_the_authority(box: BoxTls, year: int) -> None:
    renew(box, now=NOW)
    before = {path: path.read_bytes() for path in (box.gateway_file, box.public_authority)}
    with pytest.raises(Conflict) as caught:
        renew(box, now=datetime(year, 1, 1, tzinfo=UTC))
    assert caught.value.code == ("tls.clock" if year == 1970 else "tls.authority_expired")
    assert {path: path.read_bytes() for path in before} == before
    assert not renew(box, now=NOW)


def test_before_anything_was_issued_there_is_nothing_to_show(box: BoxTls) -> None:
    with pytest.raises(NotFound, match="no certificate"):
        show(box)


def test_the_settings_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "tls.toml"
    with pytest.raises(NotFound, match="no installed box"):
        read_config(path)
    path.write_text('mode = "other"\n')
    with pytest.raises(BadInput, match="mode"):
        read_config(path)
    path.write_text('mode = "provided"\nnames = ["a.example.org"]\n')
    assert read_config(path).names == ("a.example.org",)


class Pki:
    """An organisation's authority: a root, an intermediate, and leaves of any kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._root = self._sign("Root", self._root_key, "Root", self._root_key, authority=True)
        self._middle_key = ec.generate_private_key(ec.SECP256R1())
        self._middle = self._sign("Middle", self._middle_key, "Root", self._root_key, authority=True)
        self.chain = folder / "chain.pem"
        self.chain.write_bytes(self._pem(self._middle) + self._pem(self._root))

    def end_middle(self, days: int) -> None:
        """Have the intermediate end so many days from now; its key stays."""
        middle = self._sign("Middle", self._middle_key, "Root", self._root_key, authority=True, days=days)
        self.chain.write_bytes(self._pem(middle) + self._pem(self._root))

    def leaf(
        self,
        *names: str,
        days: int = 365,
        uses: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH,),
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    ) -> tuple[Path, Path]:
        """Return files with a certificate for these names and its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        leaf = self._sign("Leaf", key, "Middle", self._middle_key, names=names, days=days, uses=uses)
        certificate, private = self.folder / "leaf.pem", self.folder / "leaf.key"
        certificate.write_bytes(self._pem(leaf))
        write_private(private, key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        return certificate, private

    def _sign(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        issuer: str,
        signer: ec.EllipticCurvePrivateKey,
        *,
        names: tuple[str, ...] = (),
        days: int = 3650,
        uses: tuple[x509.ObjectIdentifier, ...] = (),
        authority: bool = False,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=10))
            .not_valid_after(NOW + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
            )
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(uses)), critical=False)
        return builder.sign(signer, hashes.SHA256())

    @staticmethod
    def _pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(Encoding.PEM)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def test_a_provided_certificate_is_published_with_its_chain(tmp_path: Path, pki: Pki) -> None:
    box = _box(tmp_path, mode="provided")
    certificate, key = pki.leaf("box.example.org")
    assert import_provided(box, certificate=certificate, key=key, chain=pki.chain, now=NOW)
    assert box.gateway_file.read_text().count("BEGIN CERTIFICATE") == 3
    assert box.public_authority.read_text().count("BEGIN CERTIFICATE") == 1
    assert not import_provided(box, certificate=certificate, key=key, chain=pki.chain, now=NOW)
    assert show(box, now=NOW).mode == "provided"
    assert not renew(box, now=NOW)


def test_an_ended_provided_certificate_asks_for_its_successor(tmp_path: Path, pki: Pki) -> None:
    box = _box(tmp_path, mode="provided")
    certificate, key = pki.leaf("box.example.org", days=30)
    import_provided(box, certificate=certificate, key=key, now=NOW)
    assert show(box, now=NOW + timedelta(days=10)).attention == ("it ends in 20 days",)
    with pytest.raises(Conflict, match="ended on"):
        renew(box, now=NOW + timedelta(days=31))


def _other_key(pki: Pki) -> tuple[Path, Path]:
    certificate, _ = pki.leaf("box.example.org")
    saved = certificate.read_bytes()
    _, key = pki.leaf("box.example.org")
    certificate.write_bytes(saved)
    return certificate, key


def _encrypted(pki: Pki) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, private = pki.leaf("box.example.org", key=key)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    write_private(private, text)
    return certificate, private


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_other_key, "is not the key of"),
        (_encrypted, "not an unencrypted private key"),
        (lambda pki: pki.leaf("other.example.org"), "does not name box.example.org"),
        (lambda pki: pki.leaf("box.example.org", days=-1), "this machine's clock says 2026-06-01"),
        (lambda pki: pki.leaf("box.example.org", uses=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "not made for servers"),
        (
            lambda pki: pki.leaf("box.example.org", key=rsa.generate_private_key(65537, 1024)),
            "1024 bits",
        ),
    ],
)
def test_what_cannot_serve_is_refused_and_nothing_is_published(
    tmp_path: Path, pki: Pki, make: Callable[[Pki], tuple[Path, Path]], reason: str
) -> None:
    box = _box(tmp_path, mode="provided")
    certificate, key = make(pki)
    with pytest.raises(BadInput, match=reason):
        import_provided(box, certificate=certificate, key=key, chain=pki.chain, now=NOW)
    assert not box.gateway_file.exists()


def test_a_chain_in_the_wrong_order_is_refused(tmp_path: Path, pki: Pki) -> None:
    box = _box(tmp_path, mode="provided")
    certificate, key = pki.leaf("box.example.org")
    middle, root = pki.chain.read_text().split("-----END CERTIFICATE-----\n")[:2]
    pki.chain.write_text("".join(f"{part}-----END CERTIFICATE-----\n" for part in (root, middle)))
    with pytest.raises(BadInput, match=r"chain of .* is broken"):
        import_provided(box, certificate=certificate, key=key, chain=pki.chain, now=NOW)


def test_a_chain_that_has_ended_is_refused(tmp_path: Path, pki: Pki) -> None:
    box = _box(tmp_path, mode="provided")
    certificate, key = pki.leaf("box.example.org")
    pki.end_middle(days=-1)
    with pytest.raises(BadInput, match=r"CN=Middle is valid from .* to 2026-05-31"):
        import_provided(box, certificate=certificate, key=key, chain=pki.chain, now=NOW)
    assert not box.gateway_file.exists()


def test_a_box_that_issues_itself_takes_none_since_the_next_renewal_would_undo_it(box: BoxTls, pki: Pki) -> None:
    renew(box, now=NOW)
    served, trusted = box.gateway_file.read_bytes(), box.public_authority.read_bytes()
    certificate, key = pki.leaf("box.example.org")
    with pytest.raises(Conflict, match="issues its certificate itself"):
        import_provided(box, certificate=certificate, key=key, chain=pki.chain, now=NOW)
    assert (box.gateway_file.read_bytes(), box.public_authority.read_bytes()) == (served, trusted)


def test_a_key_that_others_read_is_refused(tmp_path: Path, pki: Pki) -> None:
    certificate, key = pki.leaf("box.example.org")
    key.chmod(0o644)
    with pytest.raises(Forbidden):
        import_provided(_box(tmp_path, mode="provided"), certificate=certificate, key=key, now=NOW)


@pytest.mark.parametrize(
    ("name", "covered"),
    [("a.example.org", True), ("A.Example.org.", True), ("b.a.example.org", False), ("example.org", False)],
)
def test_a_wildcard_stands_for_one_label(pki: Pki, name: str, covered: bool) -> None:
    certificate, _ = pki.leaf("*.example.org")
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    assert covers(leaf, name) is covered
