"""Signatures of the publisher: the same bytes for the same date, good in any year, worth nothing by another key."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, IntegrityFailure
from installer.bundle.openpgp import Signer, verify_detached
from tests.factories.bundle import BUILT, PASSPHRASE, Publisher


@pytest.mark.parametrize("year", [2027, 2090])
def test_detached(year: int, publisher: Publisher, stranger: Publisher, tmp_path: Path) -> None:
    """A signature from the future is one that a box with a dead clock sees every day."""
    data, signature = tmp_path / "data", tmp_path / "data.gpg"
    data.write_bytes(b"content")
    signer = Signer(publisher.keys, PASSPHRASE, at=BUILT.replace(year=year))
    signature.write_bytes(signer.detach_sign(b"content"))
    assert signer.detach_sign(b"content") == signature.read_bytes()
    assert verify_detached(data, signature, publisher.keys.publisher_public) == publisher.fingerprint
    with pytest.raises(IntegrityFailure):
        verify_detached(data, signature, stranger.keys.publisher_public)
    data.write_bytes(b"other content")
    with pytest.raises(IntegrityFailure) as refused:
        verify_detached(data, signature, publisher.keys.publisher_public)
    assert refused.value.code == "bundle.unsigned"


def test_clear_signed_text_carries_itself(publisher: Publisher) -> None:
    text = Signer(publisher.keys, PASSPHRASE, at=BUILT).clear_sign(b"Origin: Intramuros\n").decode()
    assert text.startswith("-----BEGIN PGP SIGNED MESSAGE-----")
    assert "\nOrigin: Intramuros\n" in text


def test_wrong_passphrase(publisher: Publisher) -> None:
    with pytest.raises(BadInput) as refused:
        Signer(publisher.keys, b"not the passphrase", at=BUILT).detach_sign(b"content")
    assert refused.value.code == "bundle.key"
