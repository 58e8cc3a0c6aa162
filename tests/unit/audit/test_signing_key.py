"""The key file: created once, private, refused when it was exposed."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from appliance.audit.signing_key import create_signing_key, load_signing_key
from appliance.audit.verify_audit import read_public_key
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound


def test_a_created_key_loads_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    created = create_signing_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load_signing_key(path)
    assert loaded.public_bytes == created.public_bytes
    assert loaded.key_id == hashlib.sha256(created.public_bytes).hexdigest()[:16]
    assert read_public_key(loaded.public_base64) == created.public_bytes


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    create_signing_key(path)
    before = path.read_bytes()
    with pytest.raises(Conflict):
        create_signing_key(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_an_exposed_key_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "audit.key"
    create_signing_key(path)
    path.chmod(mode)
    with pytest.raises(BadInput) as caught:
        load_signing_key(path)
    assert caught.value.code == "audit.key_mode"
    assert "chmod 600" in caught.value.hint


def test_a_missing_or_damaged_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    with pytest.raises(NotFound):
        load_signing_key(path)
    path.touch(mode=0o600)
    with pytest.raises(IntegrityFailure):
        load_signing_key(path)


def test_printing_a_key_shows_nothing_of_it(tmp_path: Path) -> None:
    key = create_signing_key(tmp_path / "audit.key")
    assert repr(key) == "SigningKey()"
