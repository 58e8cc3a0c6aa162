"""Keys: made once, never overwritten, never readable by others; a rotation needs two present root keys."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Conflict, Forbidden, IntegrityFailure, NotFound
from appliance.kernel.private import write_private
from installer.bundle.ceremony import identity, make_keys, rotate
from installer.bundle.keys import RELEASE, ROOT_NAMES, KeyFolder, load_key, read_passphrase
from installer.bundle.signed_metadata import load_roots, read_root
from installer.bundle.verify import verify_bundle
from tests.factories.bundle import BUILT, PASSPHRASE, Machine, Publisher

LATER = BUILT.replace(year=2027)


@pytest.fixture
def own(publisher: Publisher, tmp_path: Path) -> Publisher:
    """A copy of the publisher, to rotate."""
    return Publisher(folder=Path(shutil.copytree(publisher.folder, tmp_path / "own")))


def test_root_is_two_of_three(publisher: Publisher) -> None:
    root = read_root(publisher.keys.roots()[0].read_bytes()).signed
    assert (len(root.roles["root"].keyids), root.roles["root"].threshold) == (3, 2)
    release = load_key(publisher.keys.private(RELEASE), PASSPHRASE).public_key.keyid
    assert {tuple(root.roles[name].keyids) for name in ("targets", "snapshot", "timestamp")} == {(release,)}
    assert all(key.scheme == "ed25519" for key in root.keys.values())


def test_private_keys_are_encrypted_and_private(publisher: Publisher) -> None:
    files = [*(publisher.keys.private(name) for name in (*ROOT_NAMES, RELEASE)), publisher.keys.publisher_secret]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for file in files[:-1]:
        assert b"ENCRYPTED PRIVATE KEY" in file.read_bytes()
        with pytest.raises(BadInput):
            load_key(file, b"another passphrase")
    files[0].chmod(0o644)
    try:
        with pytest.raises(Forbidden):
            load_key(files[0], PASSPHRASE)
    finally:
        files[0].chmod(0o600)


def test_no_key_overwrites_another(publisher: Publisher) -> None:
    with pytest.raises(Conflict):
        make_keys(publisher.folder, PASSPHRASE, now=BUILT)


def test_passphrase(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    write_private(file, b"long enough for this\n")
    assert read_passphrase(file) == b"long enough for this"
    write_private(file, b"short\n")
    with pytest.raises(BadInput):
        read_passphrase(file)
    file.chmod(0o640)
    with pytest.raises(Forbidden):
        read_passphrase(file)


def test_no_keys_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        identity(KeyFolder(tmp_path))


def test_rotation_of_the_release_key_is_followed(
    own: Publisher, pristine: Path, inputs: Path, machine: Machine, tmp_path: Path
) -> None:
    verify_bundle(pristine, machine.policy(fingerprint=own.root_fingerprint))
    found = rotate(own.keys, PASSPHRASE, replace=[RELEASE], elsewhere=[], now=LATER)
    assert found.root_version == 2
    rotated = own.build(inputs, tmp_path / "rotated", sequence=6)
    assert verify_bundle(rotated, machine.policy()).sequence == 6
    assert machine.trust.root() == own.keys.roots()[1].read_bytes()
    # The key that was replaced signs nothing any more.
    old = KeyFolder(own.folder / "retired-by-root-2").private(RELEASE)
    shutil.copyfile(old, own.keys.private(RELEASE))
    with pytest.raises(BadInput) as refused:
        own.build(inputs, tmp_path / "stale", sequence=7)
    assert refused.value.code == "bundle.release_key"


def test_rotation_of_a_root_key_is_followed(own: Publisher, inputs: Path, machine: Machine, tmp_path: Path) -> None:
    first = own.root_fingerprint
    before = load_key(own.keys.private("root2"), PASSPHRASE).public_key.keyid
    rotate(own.keys, PASSPHRASE, replace=["root2"], elsewhere=[], now=LATER)
    rotate(own.keys, PASSPHRASE, replace=[], elsewhere=[], now=LATER.replace(year=2028))
    assert before not in read_root(own.keys.roots()[-1].read_bytes()).signed.roles["root"].keyids
    assert len(load_roots(own.keys.roots())) == 3
    medium = own.build(inputs, tmp_path / "medium", sequence=6)
    assert verify_bundle(medium, machine.policy(fingerprint=first)).sequence == 6


def test_rotation_that_was_cut_off_keeps_no_key_that_was_to_go(own: Publisher) -> None:
    rotate(own.keys, PASSPHRASE, replace=["root2"], elsewhere=[], now=LATER)
    own.keys.roots()[-1].unlink()  # the power went before the root that no longer names the old key was there
    with pytest.raises(Conflict) as refused:
        rotate(own.keys, PASSPHRASE, replace=["root2"], elsewhere=[], now=LATER)
    assert refused.value.code == "bundle.rotation_cut"
    shutil.copyfile(KeyFolder(own.folder / "retired-by-root-2").private("root2"), own.keys.private("root2"))
    assert rotate(own.keys, PASSPHRASE, replace=["root2"], elsewhere=[], now=LATER).root_version == 2
    assert len(read_root(own.keys.roots()[-1].read_bytes()).signed.roles["root"].keyids) == 3


def test_fingerprint_of_a_root_that_was_replaced_undoes_nothing(
    own: Publisher, pristine: Path, inputs: Path, machine: Machine, tmp_path: Path
) -> None:
    first = own.root_fingerprint
    verify_bundle(pristine, machine.policy(fingerprint=first))
    rotate(own.keys, PASSPHRASE, replace=[RELEASE], elsewhere=[], now=LATER)
    verify_bundle(own.build(inputs, tmp_path / "rotated", sequence=6), machine.policy())
    with pytest.raises(Conflict) as refused:
        verify_bundle(pristine, machine.policy(fingerprint=first))
    assert refused.value.code == "bundle.root_known"


def test_root_rotated_with_one_signature_is_refused(
    own: Publisher, inputs: Path, machine: Machine, tmp_path: Path
) -> None:
    rotate(own.keys, PASSPHRASE, replace=["root2"], elsewhere=[], now=LATER)
    medium = own.build(inputs, tmp_path / "medium", sequence=6)
    file = medium / "tuf/metadata/2.root.json"
    document = json.loads(file.read_bytes())
    old = read_root(own.keys.roots()[0].read_bytes()).signed.roles["root"].keyids
    kept = [one for one in document["signatures"] if one["keyid"] in old][:1]
    document["signatures"] = kept
    file.write_text(json.dumps(document))
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, machine.policy(fingerprint=own.root_fingerprint))
    assert refused.value.code == "bundle.root_rotation"
    with pytest.raises(IntegrityFailure) as unbuildable:
        load_roots([own.keys.roots()[0], file])
    assert unbuildable.value.code == "bundle.root_rotation"


def test_root_of_a_stranger_is_refused(
    medium: Path, machine: Machine, publisher: Publisher, stranger: Publisher, tmp_path: Path
) -> None:
    foreign = Publisher(folder=Path(shutil.copytree(stranger.folder, tmp_path / "foreign")))
    rotate(foreign.keys, PASSPHRASE, replace=[], elsewhere=[], now=LATER)
    shutil.copyfile(foreign.keys.roots()[1], medium / "tuf/metadata/2.root.json")
    with pytest.raises(IntegrityFailure) as refused:
        verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint))
    assert refused.value.code == "bundle.root_rotation"


def test_one_root_key_is_not_enough_to_rotate(own: Publisher) -> None:
    for name in ("root1", "root2"):
        own.keys.private(name).unlink()
    with pytest.raises(BadInput) as refused:
        rotate(own.keys, PASSPHRASE, replace=[RELEASE], elsewhere=[], now=LATER)
    assert refused.value.code == "bundle.root_signers"
    assert len(own.keys.roots()) == 1


def test_root_keys_may_lie_elsewhere(own: Publisher, tmp_path: Path) -> None:
    elsewhere = []
    for name in ROOT_NAMES:
        other = tmp_path / f"stick-{name}.pem"
        own.keys.private(name).rename(other)
        elsewhere.append(other)
    found = rotate(own.keys, PASSPHRASE, replace=[RELEASE], elsewhere=elsewhere[:2], now=LATER)
    assert found.root_version == 2


def test_unknown_key(own: Publisher) -> None:
    with pytest.raises(BadInput):
        rotate(own.keys, PASSPHRASE, replace=["root9"], elsewhere=[], now=LATER)
