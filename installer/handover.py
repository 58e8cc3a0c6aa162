"""What a finished installation leaves to people: where to connect, whom to trust, what was measured, what is next."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from appliance.kernel import process
from appliance.kernel.errors import IntramurosError
from appliance.kernel.paths import StatePaths
from installer.answers import Answers
from installer.evidence.archive import ROOT, Archive
from installer.evidence.summary import headline

_FIRST_KEY: Final = Path("/etc/intramuros/first-api-key")
_SSH_PORT: Final = 22
_PATIENCE: Final = 30.0


def facts(answers: Answers) -> Iterator[tuple[str, str]]:
    """Yield what was installed as label and text."""
    names = answers.tls.names or (answers.hostname,)
    if answers.app.enabled:
        name = f"[{names[0]}]" if ":" in names[0] else names[0]  # RFC 3986, 3.2.2
        yield "address", f"https://{name}:{answers.app.port}/v1"
        yield from _authority()
        if _FIRST_KEY.exists():
            yield "first key", f"{_FIRST_KEY} (root alone can read it)"
    yield "evidence", _evidence()
    port = f"-p {answers.ssh.port} " if answers.ssh.port != _SSH_PORT else ""
    yield "login", f"ssh {port}{answers.admin.user}@{answers.hostname}"


def steps(answers: Answers) -> Iterator[str]:
    """Yield what is left to do, one sentence each."""
    yield f"Log in as {answers.admin.user} from another terminal before you close this one; root cannot any more."
    if answers.app.enabled and answers.tls.mode == "internal":
        yield "Give clients the authority's file, and let them compare its fingerprint with the one above."
    if answers.app.enabled and answers.tls.client_certificates == "required":
        yield "Make a certificate for each client: intramuros tls client NAME --out NAME.pem"
    if answers.app.enabled and answers.app.seed_model:
        yield "Hand the first key to the first application, then remove its file."
    if answers.app.enabled and answers.backup.enabled:
        password = StatePaths(Path(answers.storage.mount)).backup_password
        yield f"Keep a copy of {password} elsewhere: without it no backup can be read."
    yield "Read what is in effect: sudo intramuros evidence show"


def _authority() -> Iterator[tuple[str, str]]:
    """Yield what `intramuros tls show` says: it knows where the authority lies."""
    with contextlib.suppress(IntramurosError, msgspec.DecodeError, KeyError):
        shown = process.run((str(Path(sys.prefix) / "bin" / "intramuros"), "tls", "show", "--json"), timeout=_PATIENCE)
        view = msgspec.json.decode(shown.stdout.encode())
        yield "authority", f"SHA-256 {view['authority_fingerprint']}"
        yield "its file", str(view["authority_file"])


def _evidence() -> str:
    try:
        archive = Archive(ROOT)
        return headline(archive.read(archive.newest()))
    except IntramurosError as error:
        return error.message
