"""Certificates of clients: issued once, revoked for good, and the gateway's own context refuses those."""

from __future__ import annotations

import contextlib
import getpass
import socket
import ssl
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from appliance.access.box_tls import BoxTls, renew
from appliance.access.client_certificates import (
    LIST_LIFETIME,
    issue_client,
    publish_revocations,
    read_register,
    revoke_client,
)
from appliance.gateway.listener import load_certificate, server_context
from appliance.gateway.table import Listen
from appliance.kernel.clock import utc_now
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound


@pytest.fixture
def box(tmp_path: Path) -> BoxTls:
    for name in ("authority", "edge", "public"):
        (tmp_path / name).mkdir()
    made = BoxTls(
        authority=str(tmp_path / "authority"),
        edge=str(tmp_path / "edge"),
        public=str(tmp_path / "public"),
        owner=getpass.getuser(),
    )
    renew(made)
    return made


def _listen(box: BoxTls) -> Listen:
    return Listen(
        certificate=str(box.gateway_file),
        key=str(box.gateway_file),
        client_authorities=str(box.public_authority),
        client_revocations=str(box.revocations_file),
    )


def _is_let_in(box: BoxTls, server: ssl.SSLContext, shown: Path | None) -> bool:
    """Shake hands over a socket pair and send one byte back, as a client with that certificate or none."""
    here, there = socket.socketpair()
    client = ssl.create_default_context(cafile=str(box.public_authority))
    if shown is not None:
        client.load_cert_chain(shown)

    def serve() -> None:
        with contextlib.suppress(OSError), server.wrap_socket(there, server_side=True) as stream:
            stream.sendall(b"!")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname="localhost") as stream:
            return stream.recv(1) == b"!"
    except OSError:
        return False
    finally:
        here.close()
        thread.join()
        there.close()


def test_a_client_is_let_in_by_its_certificate_until_that_is_revoked(tmp_path: Path, box: BoxTls) -> None:
    shown, kept = tmp_path / "client.pem", tmp_path / "other.pem"
    entry = issue_client(box, "billing", shown)
    issue_client(box, "reports", kept)
    assert shown.stat().st_mode & 0o777 == 0o600
    server = server_context(_listen(box))
    assert _is_let_in(box, server, shown)
    assert not _is_let_in(box, server, None)
    (revoked,) = revoke_client(box, "billing")
    assert revoked.serial == entry.serial
    load_certificate(server, _listen(box))  # what the gateway does when the list changed
    assert not _is_let_in(box, server, shown)
    assert _is_let_in(box, server, kept)


def test_the_gateways_own_certificate_is_no_clients(box: BoxTls) -> None:
    publish_revocations(box)
    assert not _is_let_in(box, server_context(_listen(box)), box.gateway_file)


def test_without_a_list_nobody_is_let_in(tmp_path: Path, box: BoxTls) -> None:
    shown = tmp_path / "client.pem"
    issue_client(box, "billing", shown)
    ended = utc_now() - 2 * LIST_LIFETIME
    publish_revocations(box, now=ended, force=True)
    assert not _is_let_in(box, server_context(_listen(box)), shown)


def test_a_name_has_one_certificate_at_a_time(tmp_path: Path, box: BoxTls) -> None:
    issue_client(box, "billing", tmp_path / "one.pem")
    with pytest.raises(Conflict, match="has a certificate already"):
        issue_client(box, "billing", tmp_path / "two.pem")
    revoke_client(box, "billing")
    issue_client(box, "billing", tmp_path / "two.pem")
    assert [bool(entry.revoked_at) for entry in read_register(box)] == [True, False]


def test_a_key_file_is_never_overwritten(tmp_path: Path, box: BoxTls) -> None:
    (tmp_path / "taken").write_text("precious")
    with pytest.raises(Conflict, match="never overwritten"):
        issue_client(box, "billing", tmp_path / "taken")
    assert read_register(box) == ()


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines"])
def test_a_name_must_be_one(tmp_path: Path, box: BoxTls, name: str) -> None:
    with pytest.raises(BadInput, match="cannot name a client"):
        issue_client(box, name, tmp_path / "client.pem")


def test_who_is_unknown_cannot_be_revoked(box: BoxTls) -> None:
    with pytest.raises(NotFound, match="nobody"):
        revoke_client(box, "nobody")


def test_the_list_is_made_again_each_day_and_keeps_what_was_revoked(tmp_path: Path, box: BoxTls) -> None:
    entry = issue_client(box, "billing", tmp_path / "client.pem")
    revoke_client(box, "billing")
    now = utc_now()
    assert not publish_revocations(box, now=now)
    assert publish_revocations(box, now=now + timedelta(days=2))
    found = x509.load_pem_x509_crl(box.revocations_file.read_bytes())
    assert found.get_revoked_certificate_by_serial_number(int(entry.serial)) is not None


def test_a_new_authority_comes_with_a_list_of_its_own(tmp_path: Path, box: BoxTls) -> None:
    """Without one it would let no client in until the old authority's list is a day old."""
    publish_revocations(box)
    box.folder.authority_key.unlink()
    box.folder.authority_certificate.unlink()
    renew(box)
    assert publish_revocations(box)
    assert not publish_revocations(box)
    shown = tmp_path / "client.pem"
    issue_client(box, "billing", shown)
    assert _is_let_in(box, server_context(_listen(box)), shown)


def test_a_damaged_register_is_told(box: BoxTls) -> None:
    (Path(box.authority) / "clients.json").write_text("[{")
    with pytest.raises(IntegrityFailure, match="damaged"):
        read_register(box)
