"""A snapshot of what a hardening run may change: files of /etc and the boot, packages, kernel parameters, our table.

Contents are kept by their digest, so ten runs of one machine cost little more than one. Invariant: a snapshot that is
on the disk has all its objects on the disk. The objects hold shadow and host keys: folder 0700, files 0600.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from appliance.kernel import process
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntegrityFailure, InternalError, NotFound, storage_errors

# Whole trees and single files that hardening changes. Nothing below /home but keys: what people have is theirs.
TREES = (
    "etc",
    "usr/share/pam-configs",
    "var/lib/pam",
    "var/lib/dpkg/statoverride",
    "usr/bin/sudo",
    "usr/local/bin/oscap-run-sce-script",
    "boot/grub/grub.cfg",
)
PATTERNS = ("root/.ssh/authorized_keys", "home/*/.ssh/authorized_keys", "boot/System.map-*")
# The lifeline comes and goes within a run; a lock file says nothing; the evidence is a record of its own.
IGNORED = (
    "/etc/.pwd.lock",
    "/etc/intramuros/evidence",
    "/etc/systemd/system/intramuros-lifeline.service",
    "/etc/systemd/system/intramuros-lifeline.timer",
    "/etc/systemd/system/timers.target.wants/intramuros-lifeline.timer",
)
PARAMETERS = ("dev/tty", "fs", "kernel", "net/core", "net/ipv4", "net/ipv6", "vm")
TABLE = ("inet", "intramuros")

_STRAY = re.compile("[\udc80-\udcff]")
_MARKED = re.compile("\0([0-9a-f]{2})")

Kind = Literal["file", "folder", "link"]
Run = Callable[[Sequence[str]], process.Outcome]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One path: its kind, mode (octal text), owner and group, and the digest of its content or where the link leads."""

    kind: Kind
    mode: str
    uid: int
    gid: int
    digest: str = ""
    target: str = ""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was there. Paths are as `to_text` writes them; `table` is the listing of our nftables table, or None."""

    entries: dict[str, Entry]
    packages: dict[str, str]
    parameters: dict[str, str]
    table: str | None


def run_command(argv: Sequence[str]) -> process.Outcome:
    """Run one program of the system."""
    return process.run(argv, timeout=120)


def take(objects: Path, *, root: Path = Path("/"), run: Run = run_command) -> Snapshot:
    """Read everything and keep every content below `objects`. Raises StorageFailure or InternalError."""
    with storage_errors("taking a snapshot"):
        objects.mkdir(parents=True, exist_ok=True, mode=0o700)
        entries = {path: _entry(file, objects) for path, file in _paths(root)}
        os.sync()  # thousands of small files: one flush of the disk, before the snapshot itself is named
    return Snapshot(
        entries=entries, packages=_packages(run), parameters=read_parameters(root / "proc" / "sys"), table=_table(run)
    )


def entry_of(file: Path) -> Entry | None:
    """Return what is at the path now, or None."""
    try:
        return _entry(file, None)
    except FileNotFoundError:
        return None


def to_text(name: str) -> str:
    """Return a name as JSON can hold it: a byte that is no UTF-8 becomes NUL, which no name has, and two digits."""
    return _STRAY.sub(lambda found: f"\0{ord(found[0]) - 0xDC00:02x}", name)


def to_name(text: str) -> str:
    """Return the name that `to_text` wrote, as Python's functions of files take it."""
    return _MARKED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text)


def read_object(objects: Path, digest: str) -> bytes:
    """Return a kept content. Raises IntegrityFailure when it is missing or not what its name says."""
    try:
        data = _object(objects, digest).read_bytes()
    except FileNotFoundError as error:
        raise IntegrityFailure("harden.object_missing", f"The kept content {digest} is missing.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise IntegrityFailure("harden.object_damaged", f"The kept content {digest} was changed or damaged.")
    return data


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot's index; its objects are on the disk already. Raises StorageFailure."""
    with storage_errors(f"writing {path}"):
        write_file(path, msgspec.json.encode(snapshot), mode=0o600)


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot's index. Raises IntegrityFailure."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except (OSError, msgspec.DecodeError) as error:
        raise IntegrityFailure("harden.snapshot_damaged", f"The snapshot {path} cannot be read: {error}.") from error


def read_parameters(folder: Path) -> dict[str, str]:
    """Return the readable kernel parameters by dotted name."""
    found = {}
    for part in PARAMETERS:
        for where, _, names in os.walk(folder / part):
            for name in names:
                file = Path(where) / name
                if file.stat().st_mode & 0o200:  # a parameter that nobody can write cannot have been changed
                    try:
                        value = file.read_text(errors="replace").strip()
                    except OSError:  # some exist and cannot be read, such as stable_secret before it is set
                        continue
                    found[".".join(file.relative_to(folder).parts)] = value
    return found


def _paths(root: Path) -> Iterator[tuple[str, Path]]:
    files = [root / tree for tree in TREES] + [file for pattern in PATTERNS for file in sorted(root.glob(pattern))]
    for file in files:
        if file.is_dir() and not file.is_symlink():
            for where, folders, names in os.walk(file):
                for name in sorted([*folders, *names]):
                    yield from _named(root, Path(where) / name)
        elif file.exists() or file.is_symlink():
            yield from _named(root, file)


def _named(root: Path, file: Path) -> Iterator[tuple[str, Path]]:
    path = "/" + str(file.relative_to(root))
    kind = stat.S_IFMT(file.lstat().st_mode)
    if kind in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK} and not path.startswith(IGNORED):
        yield to_text(path), file


def _entry(file: Path, objects: Path | None) -> Entry:
    status = file.lstat()
    mode, uid, gid = f"{stat.S_IMODE(status.st_mode):04o}", status.st_uid, status.st_gid
    if stat.S_ISLNK(status.st_mode):
        return Entry(kind="link", mode="0777", uid=uid, gid=gid, target=to_text(str(file.readlink())))
    if stat.S_ISDIR(status.st_mode):
        return Entry(kind="folder", mode=mode, uid=uid, gid=gid)
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if objects is not None:
        _keep(objects, digest, data)
    return Entry(kind="file", mode=mode, uid=uid, gid=gid, digest=digest)


def _keep(objects: Path, digest: str, data: bytes) -> None:
    final = _object(objects, digest)
    if final.exists():
        return
    final.parent.mkdir(exist_ok=True, mode=0o700)
    temporary = final.with_name(f".{digest}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    temporary.replace(final)


def _object(objects: Path, digest: str) -> Path:
    return objects / digest[:2] / digest[2:]


def _packages(run: Run) -> dict[str, str]:
    listed = run(["dpkg-query", "-W", "-f", "${binary:Package} ${Version} ${db:Status-Status}\\n"])
    if listed.status != 0:
        raise InternalError("harden.packages", f"The packages could not be listed: {listed.stderr.strip()}.")
    lines = (line.split() for line in listed.stdout.splitlines())
    return {words[0]: words[1] for words in lines if len(words) == 3 and words[2] == "installed"}


def _table(run: Run) -> str | None:
    try:
        listed = run(["nft", "-s", "list", "table", *TABLE])
    except NotFound:  # no nftables, so no table
        return None
    return listed.stdout if listed.status == 0 else None
