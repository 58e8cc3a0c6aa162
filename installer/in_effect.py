"""What an earlier installation of this box has taken over: secrets whose files nobody needs any more.

Files of secrets lie in memory, so a restart takes them away. The next run with the same answers must not miss a
passphrase that opens the volume by now, or a password that the administrator's account has.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

from appliance.kernel.errors import NotFound
from installer.answers import Answers
from installer.places import Places
from installer.secrets import ADMIN_PASSWORD_HASH, STORAGE_PASSPHRASE, TLS_KEY

_SHADOW = Path("/etc/shadow")
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def secrets_in_effect(answers: Answers, places: Places) -> frozenset[str]:
    """Return the names of the secrets that are read only if their files are still there."""
    taken = {
        STORAGE_PASSPHRASE: volume_is_ready(places),
        ADMIN_PASSWORD_HASH: has_password(answers.admin.user) is True,
        TLS_KEY: certificate_is_served(answers, places),
    }
    return frozenset(name for name, known in taken.items() if known)


def volume_is_ready(places: Places) -> bool:
    """Tell whether the encrypted volume of this box was set up to its end: no key is needed or made then."""
    from installer.storage.table import read_table

    try:
        return read_table(places.volume_table).ready
    except NotFound:
        return False


def certificate_is_served(answers: Answers, places: Places) -> bool:
    """Tell whether the gateway has the provided certificate already, and so its key."""
    if answers.tls.mode != "provided":
        return False
    edge = places.root / answers.storage.mount.lstrip("/") / "edge"
    given = [*_certificates(answers.tls.certificate), *(_certificates(answers.tls.chain) if answers.tls.chain else ())]
    return given != [] and given == _certificates(edge / "gateway.crt") and (edge / "gateway.pem").is_file()


def _certificates(path: Path | str) -> list[bytes]:
    """Return the certificates of a PEM file as they were encoded."""
    try:
        return [base64.b64decode(each) for each in _CERTIFICATE.findall(Path(path).read_text(errors="replace"))]
    except (OSError, ValueError):
        return []


def has_password(user: str) -> bool | None:
    """Tell whether an account has a password; None when this user may not know."""
    if not os.access(_SHADOW, os.R_OK):
        return None
    for line in _SHADOW.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if name == user:
            return rest.partition(":")[0].startswith("$")
    return False
