"""Approvals signed by a person's key."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.access.approvals import create_approver_key, public_key_of, sign, statement, verify
from appliance.kernel.errors import BadInput, Conflict, Forbidden, NotFound
from appliance.kernel.private import write_private

DIGEST = "cd" * 32


def test_a_signature_holds_for_its_statement_alone(tmp_path: Path) -> None:
    path = tmp_path / "me.key"
    public = create_approver_key(path)
    signature = sign(path, statement(DIGEST, "prod", "box-1"))
    verify(public, statement(DIGEST, "prod", "box-1"), signature)
    for other in (
        statement("ef" * 32, "prod", "box-1"),
        statement(DIGEST, "test", "box-1"),
        statement(DIGEST, "prod", "box-2"),
    ):
        with pytest.raises(Forbidden) as caught:
            verify(public, other, signature)
        assert caught.value.code == "approval.signature"


def test_somebody_elses_signature_is_refused(tmp_path: Path) -> None:
    mine, theirs = create_approver_key(tmp_path / "mine"), tmp_path / "theirs"
    create_approver_key(theirs)
    with pytest.raises(Forbidden):
        verify(mine, statement(DIGEST, "prod", "x"), sign(theirs, statement(DIGEST, "prod", "x")))


def test_the_statement_is_canonical_and_says_what_it_is() -> None:
    text = statement(DIGEST, "prod", "box-1")
    assert json.loads(text)["statement"] == "intramuros/approval/v1"
    assert b" " not in text
    assert text == statement(DIGEST, "prod", "box-1")


def test_the_key_file_is_private_from_its_first_byte_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "me.key"
    before = os.umask(0)
    try:
        public = create_approver_key(path)
    finally:
        os.umask(before)
    content = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict) as caught:
        create_approver_key(path)
    assert caught.value.code == "approval.key_exists"
    assert path.read_bytes() == content
    assert public_key_of(path) == public


def test_a_key_that_others_can_read_does_not_sign(tmp_path: Path) -> None:
    path = tmp_path / "me.key"
    create_approver_key(path)
    path.chmod(0o644)
    with pytest.raises(Forbidden) as caught:
        sign(path, b"x")
    assert caught.value.code == "private.mode"
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("public", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_malformed_public_key_is_bad_input(public: str) -> None:
    with pytest.raises(BadInput):
        verify(public, b"x", base64.b64encode(bytes(64)).decode())


def test_malformed_signatures_and_keys_are_bad_input(tmp_path: Path) -> None:
    public = create_approver_key(tmp_path / "me.key")
    with pytest.raises(BadInput):
        verify(public, b"x", "AAAA")
    with pytest.raises(NotFound):
        sign(tmp_path / "nothing", b"x")
    wrong = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"garbage", wrong):
        write_private(tmp_path / "wrong.key", content)
        with pytest.raises(BadInput) as caught:
            sign(tmp_path / "wrong.key", b"x")
        assert caught.value.code == "approval.key"
    with pytest.raises(BadInput):
        create_approver_key(tmp_path / "no" / "such" / "folder")
