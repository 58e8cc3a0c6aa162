"""The key ceremony: make a publisher's keys, and replace one of them so that every box follows.

A rotation writes the next root.json beside the earlier ones; all of them travel in each bundle, so that a box that saw
none for years walks from the version it trusts to the newest.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from appliance.kernel.durable import fsync_directory, write_file
from appliance.kernel.errors import BadInput, Conflict
from installer.bundle.keys import RELEASE, ROOT_NAMES, ROOT_THRESHOLD, KeyFolder, load_key, make_key
from installer.bundle.openpgp import make_publisher_key
from installer.bundle.signed_metadata import first_root, next_root, read_root, root_fingerprint

REPLACEABLE = (*ROOT_NAMES, RELEASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What people compare, from paper."""

    publisher: str
    root_version: int
    root_fingerprint: str
    expires: datetime


def make_keys(folder: Path, passphrase: bytes, *, now: datetime, lasting: bool = True) -> Identity:
    """Make all keys of a publisher in a new folder. Raises Conflict when it holds some.

    Keys that are not `lasting` spare the seconds that stretch the passphrase: for tests.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict("bundle.key_exists", f"{folder} is not empty; keys are made in a new folder.")
    keys = KeyFolder(folder)
    keys.metadata.mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    roots = [make_key(keys.private(name), passphrase) for name in ROOT_NAMES]
    release = make_key(keys.private(RELEASE), passphrase)
    make_publisher_key(keys, passphrase, lasting=lasting)
    write_file(keys.metadata / "1.root.json", first_root(roots, release.public_key, now=now))
    return identity(keys)


def identity(keys: KeyFolder) -> Identity:
    """Return the fingerprints of the keys and the version of the root."""
    newest = keys.roots()[-1].read_bytes()
    root = read_root(newest).signed
    return Identity(
        publisher=keys.fingerprint(),
        root_version=root.version,
        root_fingerprint=root_fingerprint(newest),
        expires=root.expires,
    )


def rotate(
    keys: KeyFolder, passphrase: bytes, *, replace: Sequence[str], elsewhere: Sequence[Path], now: datetime
) -> Identity:
    """Write the next root.json, with new keys for the names in `replace` (none: it only lasts longer).

    `elsewhere` are root keys that lie on other media. Raises BadInput when too few of the present root keys are there.
    """
    unknown = sorted(set(replace) - set(REPLACEABLE))
    if unknown:
        raise BadInput("bundle.key_name", f"There is no key {', '.join(unknown)}; there are {', '.join(REPLACEABLE)}.")
    previous = keys.roots()[-1].read_bytes()
    old = read_root(previous).signed
    files = [*(keys.private(name) for name in ROOT_NAMES if keys.private(name).exists()), *elsewhere]
    present = [load_key(file, passphrase) for file in files]
    held = set(old.roles["root"].keyids)
    old_signers = [signer for signer in present if signer.public_key.keyid in held]
    if len({signer.public_key.keyid for signer in old_signers}) < ROOT_THRESHOLD:
        raise BadInput(
            "bundle.root_signers",
            f"A rotation needs {ROOT_THRESHOLD} of the present root keys; {len(old_signers)} of them are here.",
            hint="Name those on other media with --root-key FILE.",
        )
    leaving = {_keyid_of(keys, name, passphrase) for name in replace if name in ROOT_NAMES}
    if not leaving <= held:
        raise Conflict(
            "bundle.rotation_cut",
            f"Keys in {keys.folder} are not those of root version {old.version}: a rotation was cut off.",
            hint=f"Move the keys in {_retired(keys, old.version)} back in place of the new ones, and repeat it.",
        )
    fresh: dict[str, CryptoSigner] = {}
    staged = keys.folder / ".next"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(mode=0o700)
    for name in replace:
        fresh[name] = make_key(staged / f"{name}.pem", passphrase)
    new_roots = [fresh[name].public_key for name in replace if name in ROOT_NAMES]
    release_id = old.roles["targets"].keyids[0]
    root = next_root(
        previous,
        roots=[*(old.keys[keyid] for keyid in sorted(held - leaving)), *new_roots],
        release=fresh[RELEASE].public_key if RELEASE in fresh else old.keys[release_id],
        signers=[*old_signers, *(fresh[name] for name in replace if name in ROOT_NAMES)],
        now=now,
    )
    # The old keys are set aside before the root that no longer names them counts; what may fill a disk comes first.
    write_file(staged / "root.json", root)
    retired = _retired(keys, old.version)
    for name in replace:
        if keys.private(name).exists():
            retired.mkdir(mode=0o700, exist_ok=True)
            keys.private(name).rename(retired / f"{name}.pem")
        (staged / f"{name}.pem").rename(keys.private(name))
    (staged / "root.json").rename(keys.metadata / f"{old.version + 1}.root.json")
    fsync_directory(keys.metadata)
    staged.rmdir()
    return identity(keys)


def _retired(keys: KeyFolder, version: int) -> Path:
    return keys.folder / f"retired-by-root-{version + 1}"


def _keyid_of(keys: KeyFolder, name: str, passphrase: bytes) -> str:
    """Return the id of the key that leaves. Its file must be here: the name says nothing in the metadata."""
    return str(load_key(keys.private(name), passphrase).public_key.keyid)
