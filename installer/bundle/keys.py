"""The keys of a publisher: three root keys of which two must sign, one release key, one OpenPGP key for apt.

Private keys are files of mode 0600, encrypted with a passphrase that comes from a file. The root keys are needed for a
rotation alone and belong on media of their own; nothing but the release key and the OpenPGP key is needed to build.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from appliance.kernel.errors import BadInput, Conflict, NotFound
from appliance.kernel.private import read_private, write_private

ROOT_NAMES = ("root1", "root2", "root3")
RELEASE = "release"
ROOT_THRESHOLD = 2
_SHORTEST_PASSPHRASE = 12


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """Where a publisher's keys lie. A root key may be absent: it is elsewhere on purpose."""

    folder: Path

    def private(self, name: str) -> Path:
        """Return the file of an Ed25519 key."""
        return self.folder / f"{name}.pem"

    @property
    def publisher_secret(self) -> Path:
        """The OpenPGP key, protected by the passphrase."""
        return self.folder / "publisher.key"

    @property
    def publisher_public(self) -> Path:
        """Its public part, as apt and gpgv want it."""
        return self.folder / "publisher.gpg"

    @property
    def publisher_fingerprint(self) -> Path:
        """Its fingerprint, for paper and for the site's pages."""
        return self.folder / "publisher.fingerprint"

    @property
    def metadata(self) -> Path:
        """The root metadata, one file for each version."""
        return self.folder / "metadata"

    def fingerprint(self) -> str:
        """Return the fingerprint of the OpenPGP key: 40 hexadecimal digits. Raises NotFound."""
        if not self.publisher_fingerprint.is_file():
            raise NotFound(
                "bundle.keys_missing",
                f"{self.folder} holds no keys of a publisher.",
                hint="Make them with: intramuros bundle keys init FOLDER --passphrase-file FILE",
            )
        return self.publisher_fingerprint.read_text().strip()

    def roots(self) -> list[Path]:
        """Return the files of root metadata, oldest first. Raises NotFound."""
        found = {int(name[1]): file for file in self.metadata.glob("*.root.json") if (name := _ROOT.match(file.name))}
        if sorted(found) != list(range(1, len(found) + 1)) or not found:
            raise NotFound(
                "bundle.keys_missing", f"{self.metadata} does not hold every version of root.json from 1 on."
            )
        return [found[version] for version in sorted(found)]


_ROOT = re.compile(r"^([1-9]\d*)\.root\.json$")


def read_passphrase(file: Path) -> bytes:
    """Read the passphrase from a private file. Raises BadInput when it is short."""
    passphrase = read_private(file).rstrip(b"\r\n")
    if len(passphrase) < _SHORTEST_PASSPHRASE or b"\n" in passphrase:
        raise BadInput(
            "bundle.passphrase",
            f"The passphrase in {file} must be one line of {_SHORTEST_PASSPHRASE} bytes or more.",
        )
    return passphrase


def make_key(file: Path, passphrase: bytes) -> CryptoSigner:
    """Make an Ed25519 key and write it encrypted. Raises Conflict when the file exists."""
    if file.exists():
        raise Conflict("bundle.key_exists", f"{file} exists; a key overwrites nothing.")
    key = Ed25519PrivateKey.generate()
    write_private(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)))
    return CryptoSigner(key)


def load_key(file: Path, passphrase: bytes) -> CryptoSigner:
    """Load an Ed25519 key. Raises BadInput for a wrong passphrase or another kind of key."""
    data = read_private(file)
    try:
        key = load_pem_private_key(data, passphrase)
    except (ValueError, TypeError) as error:
        raise BadInput("bundle.key", f"{file} cannot be opened with this passphrase.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput("bundle.key", f"{file} is not an Ed25519 key.")
    return CryptoSigner(key)
