"""Building: the same inputs give the same bytes; nothing half-made is left; what is not described is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, Unavailable
from installer.bundle import layout
from installer.bundle.build import Settings, build
from installer.bundle.inputs import tree_of
from installer.bundle.joining import join_bundle
from installer.bundle.manifest import decode_manifest
from installer.bundle.sums import parse_sums
from installer.bundle.verify import verify_bundle
from tests.factories.bundle import BUILT, PASSPHRASE, Machine, Publisher, make_inputs


def digests(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_two_builds_are_byte_identical(pristine: Path, publisher: Publisher, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "inputs", model_size=3 << 20)  # collected a second time, on another day
    again = publisher.build(inputs, tmp_path / "again")
    assert digests(again) == digests(pristine)
    modes = {oct(file.stat().st_mode & 0o777) for file in again.rglob("*") if file.is_file()}
    assert modes == {"0o644"}


def test_lists_cover_everything(pristine: Path) -> None:
    present = set(digests(pristine))
    manifest = decode_manifest((pristine / layout.MANIFEST).read_bytes())
    assert {entry.path for entry in manifest.files} == present - layout.SIGNED_APART
    listed = parse_sums((pristine / layout.SUMS).read_bytes())
    assert set(listed) == present - {layout.SUMS, layout.SUMS_SIGNATURE}
    assert listed == {path: digests(pristine)[path] for path in listed}


def test_no_address_of_a_mirror_in_a_manifest(pristine: Path) -> None:
    text = (pristine / layout.MANIFEST).read_text()
    assert "://" not in text
    origins = {entry.path: entry.origin for entry in decode_manifest(text.encode()).files}
    assert origins["apt/wanted_1.0-1_all.deb"].apt == "bookworm/main"
    assert origins["wheels/tiny_wheel-1.0-py3-none-any.whl"].pypi == "tiny-wheel==1.0"


def test_parts_are_joined_again(in_parts: Path, machine: Machine, publisher: Publisher, tmp_path: Path) -> None:
    sizes = [file.stat().st_size for file in sorted((in_parts / "models").glob("seed.gguf.part*"))]
    assert sizes == [1 << 20] * 3
    verify_bundle(in_parts, machine.policy(fingerprint=publisher.root_fingerprint))
    joined = tmp_path / "joined"
    assert join_bundle(in_parts, joined, machine.trust) == ["models/seed.gguf"]
    assert (joined / "models/seed.gguf").stat().st_size == 3 << 20
    assert not list((joined / "models").glob("*.part*"))
    assert verify_bundle(joined, machine.policy()).sequence == 5
    with pytest.raises(Conflict):
        join_bundle(in_parts, joined, machine.trust)


def test_only_models_come_in_parts(inputs: Path, publisher: Publisher, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        publisher.build(inputs, tmp_path / "out", part=1000)
    assert refused.value.code == "bundle.part_size"
    assert not list(tmp_path.iterdir())  # nothing half-made


def test_what_is_not_described_is_not_signed(publisher: Publisher, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "inputs")
    (tree_of(inputs) / "apt" / "smuggled.deb").write_bytes(b"x")
    with pytest.raises(IntegrityFailure, match=r"smuggled\.deb"):
        publisher.build(inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cut_off_collection(publisher: Publisher, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "inputs")
    (inputs / "inputs.json").unlink()
    with pytest.raises(NotFound, match="no whole collection"):
        publisher.build(inputs, tmp_path / "out")


def test_nothing_is_overwritten(pristine: Path, inputs: Path, publisher: Publisher) -> None:
    with pytest.raises(Conflict):
        publisher.build(inputs, pristine)


def test_what_is_not_proven_is_not_left(inputs: Path, publisher: Publisher, tmp_path: Path) -> None:
    def refuse(medium: Path, packages: Sequence[str]) -> int:
        assert (medium / layout.SUMS).exists()
        raise Unavailable("bundle.apt", f"no {packages}")

    settings = Settings(built=BUILT, sequence=1)
    with pytest.raises(Unavailable):
        build(inputs, publisher.keys, PASSPHRASE, tmp_path / "out", settings, prove=refuse)
    assert not list(tmp_path.iterdir())


def test_package_that_is_none(publisher: Publisher, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "inputs")
    (tree_of(inputs) / "apt" / "wanted_1.0-1_all.deb").write_bytes(b"no package at all")
    with pytest.raises(IntegrityFailure) as refused:
        publisher.build(inputs, tmp_path / "out")
    assert refused.value.code == "bundle.package"
