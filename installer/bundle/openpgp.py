"""OpenPGP by GnuPG, for the two verifiers that a minimal Debian has: apt and gpgv. Ed25519 alone.

Signing happens in a throw-away key ring; the date of a signature is given, so that the same inputs give the same bytes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, InternalError
from appliance.kernel.private import write_private
from appliance.kernel.process import Outcome, run
from installer.bundle.keys import KeyFolder

IDENTITY = "Intramuros bundle publisher"
_SECONDS = 120.0
_FINGERPRINT = re.compile(r"^fpr:+([0-9A-F]{40}):", re.MULTILINE)
_VALID = re.compile(r"^\[GNUPG:\] VALIDSIG (?:\S+ ){9}([0-9A-F]{40})$", re.MULTILINE)


def make_publisher_key(keys: KeyFolder, passphrase: bytes, *, lasting: bool = True) -> str:
    """Make the publisher's OpenPGP key and return its fingerprint. Raises Conflict when there is one."""
    if keys.publisher_secret.exists():
        raise Conflict("bundle.key_exists", f"{keys.publisher_secret} exists; a key overwrites nothing.")
    with _home(passphrase, lasting=lasting) as gpg:
        gpg("--quick-generate-key", IDENTITY, "ed25519", "sign", "never")
        fingerprint = _only_fingerprint(gpg("--with-colons", "--list-keys").stdout)
        secret = gpg("--armor", "--export-secret-keys", fingerprint).stdout
        public = keys.publisher_public
        gpg("--output", str(public), "--export", fingerprint)
    write_private(keys.publisher_secret, secret.encode())
    write_file(keys.publisher_fingerprint, f"{fingerprint}\n".encode())
    return fingerprint


class Signer:
    """Signs with the publisher's key at one given instant."""

    def __init__(self, keys: KeyFolder, passphrase: bytes, *, at: datetime) -> None:
        self._keys = keys
        self._passphrase = passphrase
        self._at = at.strftime("%Y%m%dT%H%M%S!")

    def clear_sign(self, data: bytes) -> bytes:
        """Return the text with its signature around it, as apt wants InRelease."""
        return self._sign(data, "--armor", "--clear-sign")

    def detach_sign(self, data: bytes) -> bytes:
        """Return a binary signature."""
        return self._sign(data, "--detach-sign")

    def _sign(self, data: bytes, *how: str) -> bytes:
        secret = self._keys.publisher_secret
        with (
            _home(self._passphrase, lasting=False) as gpg,
            tempfile.TemporaryDirectory(prefix="intramuros-sign-") as folder,
        ):
            out = Path(folder) / "signed"
            gpg("--import", str(secret))
            time = ("--faked-system-time", self._at, "--ignore-time-conflict", "--ignore-valid-from")
            given = Path(folder) / "data"
            given.write_bytes(data)
            gpg(*time, "--digest-algo", "SHA512", "--output", str(out), *how, str(given))
            return out.read_bytes()


def verify_detached(data: Path, signature: Path, key: Path) -> str:
    """Return the fingerprint of the key that made a signature. Raises IntegrityFailure.

    The machine's clock has no say: a box that believes to live in 1970 still knows a good signature.
    """
    with tempfile.TemporaryDirectory(prefix="intramuros-gpgv-") as home:
        outcome = run(
            [
                "gpgv",
                "--homedir",
                home,
                "--ignore-time-conflict",
                "--status-fd",
                "1",
                "--keyring",
                str(key.absolute()),
                str(signature),
                str(data),
            ],
            timeout=_SECONDS,
        )
    found = _VALID.findall(outcome.stdout)
    if outcome.status != 0 or len(found) != 1:
        said = outcome.stderr.strip().splitlines()[-1:] or ["gpgv said nothing"]
        raise IntegrityFailure("bundle.unsigned", f"The signature of {data.name} is not good: {said[0]}.")
    return str(found[0])


class _Gpg:
    def __init__(self, home: Path, passphrase: Path) -> None:
        self._home = home
        self._passphrase = passphrase

    def __call__(self, *words: str) -> Outcome:
        argv = ["gpg", "--homedir", str(self._home), "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback"]
        outcome = run([*argv, "--passphrase-file", str(self._passphrase), *words], timeout=_SECONDS)
        if outcome.status != 0:
            said = " ".join(outcome.stderr.split())[-300:]
            if "Bad passphrase" in said or "bad passphrase" in said:
                raise BadInput("bundle.key", "The publisher's key cannot be opened with this passphrase.")
            raise InternalError("bundle.gpg", f"gpg {words[0]} failed: {said}")
        return outcome


@contextmanager
def _home(passphrase: bytes, *, lasting: bool) -> Iterator[_Gpg]:
    """Give a gpg with a key ring of its own; its agent is gone afterwards.

    A key that is only used here is encrypted anew on its way in, in a folder that soon is no more: seconds of key
    stretching for nothing, so that it is `lasting` keys alone that get them.
    """
    with tempfile.TemporaryDirectory(prefix="imgpg-") as folder:  # short: the agent's socket lies in it
        home = Path(folder)
        home.chmod(0o700)
        file = home / "passphrase"
        write_private(file, passphrase)
        if not lasting:
            (home / "gpg-agent.conf").write_text("s2k-count 1024\n")
        try:
            yield _Gpg(home, file)
        finally:
            run(["gpgconf", "--homedir", folder, "--kill", "all"], timeout=_SECONDS)


def _only_fingerprint(listing: str) -> str:
    found = _FINGERPRINT.findall(listing)
    if len(found) != 1:
        raise InternalError("bundle.gpg", f"gpg lists {len(found)} keys instead of one.")
    return str(found[0])
