"""The manifest: canonical, strict about what it does not know, and strict about names."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import IntegrityFailure
from installer.bundle.layout import SIGNED_APART
from installer.bundle.manifest import (
    SCHEMA,
    Entry,
    Kind,
    Manifest,
    Origin,
    Part,
    decode_manifest,
    encode_manifest,
    instant_text,
)
from tests.factories.bundle import BUILT


def entry(path: str, size: int = 3, parts: tuple[Part, ...] = ()) -> Entry:
    return Entry(path=path, size=size, sha256="0" * 64, kind=Kind.MODEL, origin=Origin(given="test"), parts=parts)


def manifest(*entries: Entry) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        product="intramuros",
        version="0.1.0",
        sequence=1,
        channel="stable",
        min_from_version="0.1.0",
        target="debian12",
        processor="x86-64-v3",
        built=instant_text(BUILT),
        publisher="A" * 40,
        files=tuple(entries),
    )


def refusal(document: Manifest) -> str:
    with pytest.raises(IntegrityFailure) as refused:
        decode_manifest(encode_manifest(document))
    return refused.value.code


def test_comes_back_as_it_was() -> None:
    whole = manifest(entry("a"), entry("b/c", 2, (Part(path="b/c.part001", size=2, sha256="1" * 64),)))
    assert decode_manifest(encode_manifest(whole)) == whole
    assert whole.built_at == BUILT
    assert whole.total_size == 5


def test_only_canonical_bytes() -> None:
    data = encode_manifest(manifest(entry("a")))
    for other in (data + b"\n", json.dumps(json.loads(data)).encode(), data.replace(b'"a"', b'"\\u0061"')):
        with pytest.raises(IntegrityFailure):
            decode_manifest(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [("extra", 1), ("sequence", 0), ("sequence", "1"), ("built", "today"), ("publisher", "a" * 40), ("schema", 99)],
)
def test_refuses_what_it_does_not_know(field: str, value: object) -> None:
    document = msgspec.to_builtins(manifest(entry("a")))
    with pytest.raises(IntegrityFailure):
        decode_manifest(canonical_json({**document, field: value}))


@pytest.mark.parametrize("field", ["size", "sha256", "kind"])
def test_refuses_a_wrong_entry(field: str) -> None:
    document = msgspec.to_builtins(manifest(entry("a")))
    document["files"][0][field] = {"size": -1, "sha256": "0" * 63, "kind": "other"}[field]
    with pytest.raises(IntegrityFailure):
        decode_manifest(canonical_json(document))


def test_names() -> None:
    assert refusal(manifest(entry("../a"))) == "bundle.path"
    assert refusal(manifest(entry("a", 1, (Part(path="../b", size=1, sha256="0" * 64),)))) == "bundle.path"
    assert refusal(manifest(entry("A"), entry("a"))) == "bundle.case_twin"
    assert refusal(manifest(entry("a"), entry("a"))) == "bundle.case_twin"
    assert refusal(manifest(entry("b"), entry("a"))) == "bundle.manifest"
    assert refusal(manifest(entry("a", 3, (Part(path="p", size=2, sha256="0" * 64),)))) == "bundle.manifest"
    for path in SIGNED_APART:
        assert refusal(manifest(entry(path))) == "bundle.path"


@given(st.lists(st.text(alphabet="aA./-_~ \\\n\x00é", max_size=8), max_size=5, unique=True))
def test_fuzzed_names_never_leave_the_folder(paths: list[str]) -> None:
    data = encode_manifest(manifest(*(entry(path) for path in sorted(paths))))
    try:
        found = decode_manifest(data)
    except IntegrityFailure:
        return
    for one in found.files:
        parts = one.path.split("/")
        assert all(part and not part.startswith((".", "-")) for part in parts)
    folded = [one.path.casefold() for one in found.files]
    assert len(folded) == len(set(folded))


@given(st.binary(max_size=200))
def test_any_bytes_give_one_clear_refusal(data: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        decode_manifest(data)
