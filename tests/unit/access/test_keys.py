"""API keys: form, hash, comparison."""

from __future__ import annotations

import hashlib
import re

from appliance.access.keys import hash_secret, id_of, matches, new_key


def test_a_key_has_the_documented_form_and_is_not_in_its_hash() -> None:
    key = new_key()
    assert re.fullmatch(r"im-[a-z2-9]{8}-[A-Za-z0-9_-]{43}", key.secret)
    assert key.secret.split("-")[1] == key.id == id_of(key.secret)
    assert key.hash == hashlib.sha256(key.secret.encode()).hexdigest()


def test_keys_do_not_repeat() -> None:
    keys = [new_key() for _ in range(200)]
    assert len({key.secret for key in keys}) == len({key.hash for key in keys}) == 200


def test_only_the_right_secret_matches() -> None:
    key, other = new_key(), new_key()
    assert matches(key.secret, key.hash)
    assert not matches(other.secret, key.hash)
    assert not matches(key.secret[:-1] + ("A" if key.secret[-1] != "A" else "B"), key.hash)
    assert not matches(key.secret, None)


def test_the_placeholder_for_unknown_ids_opens_nothing() -> None:
    assert not matches("0" * 64, None)
    assert hash_secret("0" * 64) != "0" * 64


def test_what_is_not_a_key_has_no_id() -> None:
    key = new_key().secret
    for text in ("", "im-", key[:-1], key + "x", "sk" + key[2:], key.replace("-", "_"), "im-é" + key[4:]):
        assert id_of(text) is None, text


def test_a_secret_with_dashes_keeps_its_id() -> None:
    assert id_of("im-abcdefgh-" + "-" * 43) == "abcdefgh"
