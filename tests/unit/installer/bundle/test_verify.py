"""Each way to tamper with a medium is refused by name; a refusal leaves its receipt and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from appliance.kernel.errors import IntegrityFailure, NotFound
from installer.bundle import layout
from installer.bundle.keys import RELEASE, load_key
from installer.bundle.manifest import Manifest, decode_manifest, encode_manifest
from installer.bundle.openpgp import Signer
from installer.bundle.signed_metadata import ROOT_VALID, VALID, release_metadata
from installer.bundle.verify import verify_bundle
from tests.factories.bundle import BUILT, PASSPHRASE, Machine, Publisher

Attack = Callable[[Path], None]
DEB = "apt/wanted_1.0-1_all.deb"
OTHER = "apt/needed_1.0-1_all.deb"


def _flip(path: str) -> Attack:
    def attack(medium: Path) -> None:
        data = bytearray((medium / path).read_bytes())
        data[len(data) // 2] ^= 1
        (medium / path).write_bytes(data)

    return attack


def _cut(medium: Path) -> None:
    os.truncate(medium / DEB, 100)


def _grow(medium: Path) -> None:
    with (medium / DEB).open("ab") as stream:
        stream.write(b"x")


def _swap(one: str, other: str) -> Attack:
    def attack(medium: Path) -> None:
        first, second = (medium / one).read_bytes(), (medium / other).read_bytes()
        (medium / one).write_bytes(second)
        (medium / other).write_bytes(first)

    return attack


def _remove(path: str) -> Attack:
    return lambda medium: (medium / path).unlink()


def _add(path: str) -> Attack:
    def attack(medium: Path) -> None:
        (medium / path).parent.mkdir(parents=True, exist_ok=True)
        (medium / path).write_bytes(b"#!/bin/sh\n")

    return attack


def _link_file(medium: Path) -> None:
    target = medium.parent / "outside.deb"
    (medium / DEB).rename(target)
    (medium / DEB).symlink_to(target)


def _link_folder(medium: Path) -> None:
    (medium / "apt").rename(medium.parent / "outside")
    (medium / "apt").symlink_to("../outside")


def _pipe(medium: Path) -> None:
    (medium / DEB).unlink()
    os.mkfifo(medium / DEB)


def _socket(medium: Path) -> None:
    (medium / DEB).unlink()
    here = Path.cwd()
    os.chdir(medium / "apt")  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(Path(DEB).name)
    finally:
        os.chdir(here)


ATTACKS: dict[str, tuple[Attack, str]] = {
    "package altered": (_flip(DEB), "bundle.altered"),
    "wheel altered": (_flip("wheels/tiny_wheel-1.0-py3-none-any.whl"), "bundle.altered"),
    "model altered": (_flip("models/seed.gguf"), "bundle.altered"),
    "script altered": (_flip("bootstrap/install.sh"), "bundle.altered"),
    "signed archive altered": (_flip("apt/InRelease"), "bundle.altered"),
    "manifest altered": (_flip(layout.MANIFEST), "bundle.altered"),
    "manifest cut off": (lambda medium: os.truncate(medium / layout.MANIFEST, 200), "bundle.altered"),
    "first root altered": (_flip("tuf/metadata/1.root.json"), "bundle.altered"),
    "timestamp altered": (_flip("tuf/metadata/timestamp.json"), "bundle.altered"),
    "list altered": (_flip(layout.SUMS), "bundle.unsigned"),
    "list's signature altered": (_flip(layout.SUMS_SIGNATURE), "bundle.unsigned"),
    "package cut off": (_cut, "bundle.truncated"),
    "package grown": (_grow, "bundle.altered"),
    "two packages swapped": (_swap(DEB, OTHER), "bundle.swapped"),
    "two playbooks swapped": (_swap("playbooks/site.yml", "playbooks/roles/base/tasks/main.yml"), "bundle.swapped"),
    "package missing": (_remove(DEB), "bundle.missing"),
    "manifest missing": (_remove(layout.MANIFEST), "bundle.unsigned"),
    "timestamp missing": (_remove("tuf/metadata/timestamp.json"), "bundle.unsigned"),
    "targets missing": (_remove("tuf/metadata/targets.json"), "bundle.unsigned"),
    "list missing": (_remove(layout.SUMS), "bundle.missing"),
    "list's signature missing": (_remove(layout.SUMS_SIGNATURE), "bundle.missing"),
    "unlisted file": (_add("apt/extra_1_all.deb"), "bundle.unlisted"),
    "unlisted file in a new folder": (_add("hooks/run.sh"), "bundle.unlisted"),
    "unlisted metadata": (_add("tuf/metadata/extra.json"), "bundle.unlisted"),
    "hidden file": (_add("playbooks/.ansible.cfg"), "bundle.path"),
    "name that is an option": (_add("apt/-rf"), "bundle.path"),
    "name with a line break": (_add("apt/a\nb"), "bundle.path"),
    "name with a blank": (_add("apt/a b"), "bundle.path"),
    "file is a link": (_link_file, "bundle.symlink"),
    "folder is a link": (_link_folder, "bundle.symlink"),
    "pipe": (_pipe, "bundle.special"),
    "socket": (_socket, "bundle.special"),
    "case-fold twin of a file": (_add("apt/WANTED_1.0-1_all.deb"), "bundle.case_twin"),
    "case-fold twin of a folder": (_add("APT/extra"), "bundle.case_twin"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_by_name(name: str, medium: Path, machine: Machine, publisher: Publisher) -> None:
    attack, code = ATTACKS[name]
    verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint))
    before = _contents(machine)
    attack(medium)
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, machine.policy())
    assert refused.value.code == code
    left = {path for path, data in _contents(machine).items() if before.get(path) != data}
    assert len(left) == 1
    receipt = json.loads((machine.folder / left.pop()).read_bytes())
    assert (receipt["verdict"], receipt["code"]) == ("refused", code)


def test_refusal_is_told_although_its_receipt_cannot_be_written(
    medium: Path, machine: Machine, publisher: Publisher
) -> None:
    policy = machine.policy(fingerprint=publisher.root_fingerprint)
    policy.receipts.parent.mkdir(parents=True, exist_ok=True)
    policy.receipts.write_text("a file where the folder would be")
    (medium / DEB).write_bytes(b"altered")
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, policy)
    assert "No receipt was written" in refused.value.__notes__[0]


def test_whole_medium_is_accepted_and_remembered(pristine: Path, machine: Machine, publisher: Publisher) -> None:
    found = verify_bundle(pristine, machine.policy(fingerprint=publisher.root_fingerprint))
    assert (found.version, found.sequence, found.built) == ("0.1.0", 5, BUILT)
    accepted = machine.trust.accepted()
    assert accepted is not None
    assert (accepted.sequence, accepted.manifest_digest) == (5, found.manifest_digest)
    assert found.receipt is not None
    assert json.loads(found.receipt.read_bytes())["manifest_sha256"] == found.manifest_digest
    again = verify_bundle(pristine, machine.policy())  # by what is remembered, without a fingerprint
    assert again.manifest_digest == found.manifest_digest


def test_folder_that_is_no_bundle(pristine: Path, machine: Machine) -> None:
    with pytest.raises(NotFound, match="is no bundle") as refused:
        verify_bundle(pristine.parent, machine.policy())
    assert refused.value.hint == f"Did you mean {pristine}?"
    with pytest.raises(NotFound, match="is no bundle") as refused:
        verify_bundle(pristine / "apt", machine.policy())
    assert "mounted" in refused.value.hint


def test_a_look_writes_nothing(pristine: Path, machine: Machine, publisher: Publisher) -> None:
    verify_bundle(pristine, replace(machine.policy(fingerprint=publisher.root_fingerprint), remember=False))
    assert machine.written() == []


def test_nothing_is_trusted_without_a_fingerprint(pristine: Path, machine: Machine) -> None:
    with pytest.raises(NotFound, match="trusts no publisher"):
        verify_bundle(pristine, machine.policy())


def test_another_publishers_medium(
    pristine: Path, inputs: Path, machine: Machine, publisher: Publisher, stranger: Publisher, tmp_path: Path
) -> None:
    verify_bundle(pristine, machine.policy(fingerprint=publisher.root_fingerprint))
    foreign = stranger.build(inputs, tmp_path / "foreign", sequence=6)
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(foreign, machine.policy())
    assert refused.value.code == "bundle.unsigned"
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(foreign, machine.policy(fingerprint=publisher.root_fingerprint))
    assert refused.value.code == "bundle.unknown_publisher"


def test_list_signed_by_somebody_else(
    medium: Path, machine: Machine, publisher: Publisher, stranger: Publisher
) -> None:
    data = (medium / layout.SUMS).read_bytes()
    signed = Signer(stranger.keys, PASSPHRASE, at=BUILT).detach_sign(data)
    (medium / layout.SUMS_SIGNATURE).write_bytes(signed)
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint))
    assert refused.value.code == "bundle.unsigned"  # the key ring on the medium does not hold that key


def test_list_that_differs_from_the_manifest(medium: Path, machine: Machine, publisher: Publisher) -> None:
    lines = (medium / layout.SUMS).read_text().splitlines(keepends=True)
    data = "".join(line for line in lines if DEB not in line).encode()
    (medium / layout.SUMS).write_bytes(data)
    (medium / layout.SUMS_SIGNATURE).write_bytes(Signer(publisher.keys, PASSPHRASE, at=BUILT).detach_sign(data))
    with pytest.raises(IntegrityFailure, match="differ in apt/wanted"):
        verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint))


def test_older_bundle(pristine: Path, inputs: Path, machine: Machine, publisher: Publisher, tmp_path: Path) -> None:
    verify_bundle(pristine, machine.policy(fingerprint=publisher.root_fingerprint))
    older = publisher.build(inputs, tmp_path / "older", sequence=4)
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(older, machine.policy())
    assert refused.value.code == "bundle.older"
    newer = publisher.build(inputs, tmp_path / "newer", sequence=6)
    assert verify_bundle(newer, machine.policy()).sequence == 6
    with pytest.raises(IntegrityFailure):
        verify_bundle(pristine, machine.policy())


def test_bundle_that_updates_only_newer_versions(
    pristine: Path, inputs: Path, machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """Versions are compared as numbers: 0.10.0 is newer than 0.9.0."""
    far = publisher.build(inputs, tmp_path / "far", sequence=6, min_from_version="0.10.0")
    assert verify_bundle(far, Machine(folder=tmp_path / "new").policy(fingerprint=publisher.root_fingerprint))
    verify_bundle(pristine, machine.policy(fingerprint=publisher.root_fingerprint))
    with pytest.raises(IntegrityFailure, match=r"this machine has 0\.1\.0") as refused:
        verify_bundle(far, machine.policy())
    assert refused.value.code == "bundle.too_far"


def test_older_bundle_is_refused_by_our_record_alone(
    pristine: Path, inputs: Path, machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    verify_bundle(pristine, machine.policy(fingerprint=publisher.root_fingerprint))
    machine.trust.timestamp_file.unlink()
    older = publisher.build(inputs, tmp_path / "older", sequence=4)
    with pytest.raises(IntegrityFailure, match="number 4") as refused:
        verify_bundle(older, machine.policy())
    assert refused.value.code == "bundle.older"


def test_older_metadata_is_refused_by_tuf_alone(
    pristine: Path, inputs: Path, machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    verify_bundle(pristine, machine.policy(fingerprint=publisher.root_fingerprint))
    machine.trust.accepted_file.unlink()
    older = publisher.build(inputs, tmp_path / "older", sequence=4)
    with pytest.raises(IntegrityFailure, match=r"timestamp\.json") as refused:
        verify_bundle(older, machine.policy())
    assert refused.value.code == "bundle.older"


def test_metadata_of_another_bundle(
    medium: Path, inputs: Path, machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    other = publisher.build(inputs, tmp_path / "other", sequence=6)
    shutil.copyfile(other / "tuf/metadata/snapshot.json", medium / "tuf/metadata/snapshot.json")
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint))
    assert refused.value.code == "bundle.altered"


def test_expired_metadata(pristine: Path, machine: Machine, publisher: Publisher) -> None:
    fingerprint = publisher.root_fingerprint
    last = BUILT + VALID - timedelta(seconds=1)
    assert verify_bundle(pristine, machine.policy(fingerprint=fingerprint, now=last)).sequence == 5
    for late in (BUILT + VALID, BUILT + ROOT_VALID + timedelta(days=1), BUILT.replace(year=2099)):
        with pytest.raises(IntegrityFailure) as refused:
            verify_bundle(pristine, machine.policy(fingerprint=fingerprint, now=late))
        assert refused.value.code == "bundle.expired"


def test_clock_in_1970_makes_nothing_valid_again(
    pristine: Path, inputs: Path, machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    past = BUILT.replace(year=1970)
    fingerprint = publisher.root_fingerprint
    assert verify_bundle(pristine, machine.policy(fingerprint=fingerprint, now=past)).sequence == 5
    late = publisher.build(inputs, tmp_path / "late", sequence=9, built=BUILT + VALID + timedelta(days=1))
    assert verify_bundle(late, machine.policy(now=past)).sequence == 9
    stale = publisher.build(inputs, tmp_path / "stale", sequence=10, built=BUILT)  # newer number, expired meanwhile
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(stale, machine.policy(now=past))
    assert refused.value.code == "bundle.expired"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("product", "another", "bundle.product"),
        ("target", "debian13", "bundle.product"),
        ("sequence", 7, "bundle.mixed"),
        ("schema", 2, "bundle.manifest_schema"),
        ("publisher", "A" * 40, "bundle.unknown_publisher"),
    ],
)
def test_signed_mistakes_are_mistakes(
    field: str, value: object, code: str, medium: Path, machine: Machine, publisher: Publisher
) -> None:
    manifest = decode_manifest((medium / layout.MANIFEST).read_bytes())
    _resign(medium, publisher, msgspec.structs.replace(manifest, **{field: value}))
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint))
    assert refused.value.code == code


def test_path_that_leaves_the_bundle_although_signed(medium: Path, machine: Machine, publisher: Publisher) -> None:
    manifest = decode_manifest((medium / layout.MANIFEST).read_bytes())
    (medium.parent / "escaped").write_bytes(b"x")
    escaping = msgspec.structs.replace(manifest.files[0], path="../escaped", size=1)
    _resign(medium, publisher, msgspec.structs.replace(manifest, files=(escaping, *manifest.files[1:])))
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint))
    assert refused.value.code == "bundle.path"


@pytest.mark.parametrize("attack", ["swap", "cut", "remove", "extra"])
def test_parts(attack: str, in_parts: Path, machine: Machine, publisher: Publisher, tmp_path: Path) -> None:
    medium = Path(shutil.copytree(in_parts, tmp_path / "medium"))
    assert not (medium / "models/seed.gguf").exists()
    verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint))
    one, two = medium / "models/seed.gguf.part001", medium / "models/seed.gguf.part002"
    match attack:
        case "swap":
            first, second = one.read_bytes(), two.read_bytes()
            one.write_bytes(second)
            two.write_bytes(first)
        case "cut":
            os.truncate(two, 1000)
        case "remove":
            two.unlink()
        case _:
            (medium / "models/seed.gguf.part004").write_bytes(b"")
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, machine.policy())
    expected = {"swap": "swapped", "cut": "truncated", "remove": "missing", "extra": "unlisted"}[attack]
    assert refused.value.code == f"bundle.{expected}"


def test_damaged_record_of_the_newest_bundle(pristine: Path, machine: Machine, publisher: Publisher) -> None:
    verify_bundle(pristine, machine.policy(fingerprint=publisher.root_fingerprint))
    machine.trust.accepted_file.write_bytes(b"{}")
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(pristine, machine.policy())
    assert refused.value.code == "bundle.trust_damaged"


def test_no_bundle_there(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verify_bundle(tmp_path / "nowhere", machine.policy())


def test_progress_ends_with_every_byte(pristine: Path, machine: Machine, publisher: Publisher) -> None:
    seen: list[tuple[int, int, int, int]] = []
    found = verify_bundle(
        pristine,
        machine.policy(fingerprint=publisher.root_fingerprint),
        report=lambda amount: seen.append((amount.files, amount.files_total, amount.size, amount.size_total)),
    )
    assert seen[-1] == (len(found.manifest.files), len(found.manifest.files), *(found.manifest.total_size,) * 2)


def _resign(medium: Path, publisher: Publisher, manifest: Manifest) -> None:
    """Sign a manifest as the publisher would, with the sequence of the metadata as it was."""
    data = encode_manifest(manifest)
    root = publisher.keys.roots()[-1].read_bytes()
    release = load_key(publisher.keys.private(RELEASE), PASSPHRASE)
    (medium / layout.MANIFEST).write_bytes(data)
    for name, content in release_metadata(data, release, sequence=5, built=BUILT, root=root).items():
        (medium / layout.METADATA / name).write_bytes(content)


def _contents(machine: Machine) -> dict[str, bytes]:
    return {path: (machine.folder / path).read_bytes() for path in machine.written()}
