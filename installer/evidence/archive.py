"""The evidences of this box on disk: one folder each, published whole, never changed, never overwritten.

    /var/lib/intramuros/evidence/20261125T120000Z/{evidence.json,evidence.sig,attachments/}

A folder's name is the time that the clock showed. Clocks are wrong at times, so the numbers inside give the order.
A collection that is cut off leaves a folder whose name starts with a dot; the next one removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import publish_directory
from appliance.kernel.errors import Conflict, Forbidden, IntegrityFailure, NotFound, storage_errors
from appliance.kernel.signing_key import SigningKey
from installer.evidence.document import Attachment, Evidence, Previous
from installer.evidence.drift import Past
from installer.evidence.verify_evidence import (
    ATTACHMENTS,
    DOCUMENT,
    SIGNATURE,
    Broken,
    Unreadable,
    Verdict,
    digest,
    verify,
)

ROOT = Path("/var/lib/intramuros/evidence")
_ID = re.compile(r"\d{8}T\d{6}Z")

_Part = TypeVar("_Part")


class _Numbered(msgspec.Struct, frozen=True, kw_only=True):
    """The one field that the order needs; the others are skipped, not decoded."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Archive:
    """The folder of all evidences."""

    root: Path

    def ids(self) -> list[str]:
        """Return the ids, oldest first. One that cannot be read keeps the place of its name."""
        numbered: list[tuple[int, str]] = []
        for name in sorted(self._names()):
            found = _part(self.root / name / DOCUMENT, _Numbered)
            before = numbered[-1][0] if numbered else 0
            numbered.append(((found.sequence if found else 0) or before, name))
        return [name for _, name in sorted(numbered)]

    def _names(self) -> set[str]:
        try:
            return {child.name for child in self.root.iterdir() if _ID.fullmatch(child.name)}
        except FileNotFoundError:
            return set()
        except PermissionError as error:
            raise Forbidden(
                "evidence.forbidden",
                f"{self.root} can be read by root and the group intramuros-auditor alone.",
                hint="Run the command with sudo.",
            ) from error

    def folder(self, identifier: str) -> Path:
        """Return an evidence's folder. Raises NotFound."""
        if identifier not in self._names():
            raise NotFound(
                "evidence.unknown",
                f"There is no evidence {identifier} in {self.root}.",
                hint="`intramuros evidence list` shows what there is.",
            )
        return self.root / identifier

    def newest(self) -> str:
        """Return the newest id. Raises NotFound."""
        listed = self.ids()
        if not listed:
            raise NotFound(
                "evidence.none",
                f"Nothing was collected in {self.root} yet.",
                hint="Run: intramuros evidence collect",
            )
        return listed[-1]

    def read(self, identifier: str) -> Evidence:
        """Read an evidence. Raises NotFound or IntegrityFailure."""
        path = self.folder(identifier) / DOCUMENT
        try:
            return msgspec.json.decode(path.read_bytes(), type=Evidence)
        except (OSError, msgspec.DecodeError) as error:
            raise IntegrityFailure("evidence.damaged", f"{path} cannot be read as evidence: {error}.") from error

    def before(self, identifier: str) -> list[Past]:
        """Return what drift asks of the evidences before this one, oldest first; damaged ones, which verify names, not.

        Raises NotFound.
        """
        self.folder(identifier)
        listed = self.ids()
        found = (_part(self.root / each / DOCUMENT, Past) for each in listed[: listed.index(identifier)])
        return [each for each in found if each is not None]

    def digest_of(self, identifier: str) -> str:
        """Return the digest of an evidence. Raises NotFound."""
        return digest((self.folder(identifier) / DOCUMENT).read_bytes())

    def previous(self) -> tuple[Previous | None, int]:
        """Return what a new evidence continues, and its number."""
        listed = self.ids()
        if not listed:
            return None, 1
        last = self.read(listed[-1])
        return Previous(id=last.id, sha256=self.digest_of(last.id)), last.sequence + 1

    def verify(self, *, public_key: bytes | None = None, expect: str = "") -> Verdict:
        """Verify the whole chain. Raises NotFound or IntegrityFailure."""
        self.newest()
        try:
            return verify([self.root], public_key=public_key, expect=expect)
        except (Unreadable, Broken) as error:
            raise IntegrityFailure("evidence.unreadable", f"The evidence cannot be verified: {error}.") from error

    def publish(self, evidence: Evidence, attachments: Mapping[str, bytes], key: SigningKey) -> Path:
        """Write an evidence in one step. Raises Conflict or StorageFailure."""
        final = self.root / evidence.id
        if final.exists():
            raise Conflict("evidence.exists", f"There is an evidence {evidence.id} already.", hint="Wait a second.")
        document = canonical_json(msgspec.to_builtins(evidence))
        temporary = self.root / f".{evidence.id}"
        with storage_errors("writing the evidence"), _readable_by_auditors():
            temporary.mkdir(mode=0o750)
            try:
                if attachments:
                    (temporary / ATTACHMENTS).mkdir(mode=0o750)
                files = {f"{ATTACHMENTS}/{name}": data for name, data in attachments.items()}
                for name, data in {**files, DOCUMENT: document, SIGNATURE: key.sign(document)}.items():
                    _write(temporary / name, data)
                publish_directory(temporary, final)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return final

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Hold the archive for one collection; a second one is refused. Raises Conflict or StorageFailure."""
        with storage_errors("opening the evidence"):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o750)
            descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    "evidence.busy", "Another collection is running.", hint="Wait until it has ended."
                ) from error
            for left in self.root.glob(".*Z"):
                shutil.rmtree(left)
            yield
        finally:
            os.close(descriptor)


def _part(document: Path, kind: type[_Part]) -> _Part | None:
    """Return the fields of an evidence that `kind` has; None when it cannot be read."""
    try:
        return msgspec.json.decode(document.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def described(name: str, data: bytes, *, media_type: str, description: str) -> Attachment:
    """Describe an attachment."""
    return Attachment(name=name, sha256=digest(data), size=len(data), media_type=media_type, description=description)


@contextmanager
def _readable_by_auditors() -> Iterator[None]:
    """Let the archive's group read what is made, whatever the umask; the group itself comes from the setgid archive.

    No explicit chmod: a sandbox with RestrictSUIDSGID= refuses to name the setgid bit, and without it the bit is lost.
    """
    before = os.umask(0o027)
    try:
        yield
    finally:
        os.umask(before)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
