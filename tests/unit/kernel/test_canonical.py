from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.canonical import canonical_json, digest_of, sha256_file, sha256_hex

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_it_is_json_and_reading_it_gives_the_same_bytes_again(value: Any) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@given(st.dictionaries(TEXT, VALUES, max_size=6), st.randoms())
def test_the_order_of_insertion_does_not_show(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)
    assert digest_of(dict(items)) == digest_of(value)


@given(VALUES, VALUES)
def test_other_values_are_other_bytes(one: Any, other: Any) -> None:
    if canonical_json(one) == canonical_json(other):
        assert one == other


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_the_form_is_this_one() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "Prüfung"}) == '{"a":"Prüfung","b":[1,2.5,null]}'.encode()


def test_a_file_is_hashed_in_pieces_that_are_reported(tmp_path: Path) -> None:
    data = bytes(range(256)) * (5 << 10)
    (tmp_path / "data").write_bytes(data)
    pieces: list[int] = []
    assert sha256_file(tmp_path / "data", on_bytes=pieces.append) == sha256_hex(data)
    assert (sum(pieces), max(pieces)) == (len(data), 1 << 20)
