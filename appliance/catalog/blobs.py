"""Content-addressed store of read-only files: sha256/ab/cdef…, mode 0444, published by link, fsync and rename.

A file that is visible under a digest has that digest: bytes are hashed in the very inode that is published, and a
crash leaves either the source or the blob, never neither. It knows nothing of what the bytes mean or who needs them.

Jobs see blobs through symbolic links, not hard links: the link is in the job's folder but the file stays below the
store, where a unit's `ReadOnlyPaths=` and ownership protect it. A hard link would carry the writable inode into the
job's own folder, where `chmod` and a write would change every model that shares the bytes. A process that runs as
the store's owner outside a sandbox can still change a blob; `verify` is what finds that.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from appliance.kernel.canonical import sha256_file, sha256_hex
from appliance.kernel.durable import fsync_directory
from appliance.kernel.errors import BadInput, IntegrityFailure, NotFound, storage_errors

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20


class StoredFile(Protocol):
    """A file by name and content, as job specifications list them."""

    @property
    def path(self) -> str:
        """Path relative to its folder, with forward slashes."""
        ...

    @property
    def digest(self) -> str: ...

    @property
    def size(self) -> int: ...


class BlobStore:
    """The store below one directory. One process writes; any number read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def path(self, digest: str) -> Path:
        """Return the blob's path. Raises NotFound `blob.missing`; does not read the content."""
        place = self._place(digest)
        if not place.is_file():
            raise NotFound("blob.missing", f"There is no blob {digest[:12]}…", hint="Restore it from a backup.")
        return place

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading. Raises NotFound."""
        return self.path(digest).open("rb")

    def verify(self, digest: str) -> None:
        """Re-hash a blob. Raises NotFound, or IntegrityFailure `blob.corrupt`."""
        with storage_errors(f"reading blob {digest[:12]}"):
            actual = sha256_file(self.path(digest))
        if actual != digest:
            raise IntegrityFailure(
                "blob.corrupt",
                f"Blob {digest[:12]}… has changed on the disk: its content hashes to {actual[:12]}…",
                hint="Restore it from a backup and check the disk.",
            )

    def adopt(self, path: Path, expected_digest: str, expected_size: int) -> None:
        """Take a file over as a blob; the source is gone afterwards.

        Calling it again after success (or after a crash at any point) is right. A blob that has rotted on the disk
        is replaced. Raises IntegrityFailure `blob.mismatch` (the source stays), NotFound `blob.missing` (neither
        the source nor the blob is there), StorageFailure.
        """
        with storage_errors("adopting a file into the blob store"):
            if not os.path.lexists(path):
                self.verify(expected_digest)
                return
            temporary = self._link_or_copy(path)
            try:
                _require_content(temporary, path.name, expected_digest, expected_size)
                self._publish(temporary, expected_digest)
            finally:
                temporary.unlink(missing_ok=True)
            path.unlink()
            fsync_directory(path.parent)

    def add_bytes(self, data: bytes) -> str:
        """Store bytes and return their digest. Storing them twice is one blob."""
        digest = sha256_hex(data)
        with storage_errors("writing into the blob store"):
            temporary = self._temporary()
            try:
                with _create(temporary) as stream:
                    stream.write(data)
                self._publish(temporary, digest)
            finally:
                temporary.unlink(missing_ok=True)
        return digest

    def remove(self, digest: str) -> bool:
        """Delete a blob; False when it was not there. Whether anything needs it is the caller's question."""
        place = self._place(digest)
        with storage_errors("removing a blob"):
            try:
                place.unlink()
            except FileNotFoundError:
                return False
            fsync_directory(place.parent)
        return True

    def usage(self) -> tuple[int, int]:
        """Return the number of blobs and the sum of their sizes in bytes."""
        sizes = [place.stat().st_size for place in self._blobs()]
        return len(sizes), sum(sizes)

    def digests(self) -> Iterator[str]:
        """Yield the name of every blob in the store."""
        for place in self._blobs():
            yield place.parent.name + place.name

    def clean(self) -> int:
        """Remove what an interrupted write left and return how many; only before anything is adopted or added."""
        if not self._incoming.is_dir():
            return 0
        left = list(self._incoming.iterdir())
        with storage_errors("cleaning the blob store"):
            for temporary in left:
                temporary.unlink()
        return len(left)

    def link_folder(self, files: Iterable[StoredFile], directory: Path) -> None:
        """Show blobs as a folder of symbolic links, below `directory`, under the files' own names.

        Repeating it is right. Raises NotFound, BadInput `blob.path` (a name that leaves the folder) or
        IntegrityFailure `blob.corrupt` when a blob's size is not the listed one; content is not re-hashed.
        """
        with storage_errors("linking input files"):
            directory.mkdir(parents=True, exist_ok=True)
            base = directory.resolve()
            for entry in files:
                blob = self.path(entry.digest).resolve()
                if blob.stat().st_size != entry.size:
                    raise IntegrityFailure("blob.corrupt", f"The blob of {entry.path} does not have its listed size.")
                link = base.joinpath(*_safe_parts(entry.path))
                link.parent.mkdir(parents=True, exist_ok=True)
                target = os.path.relpath(blob, link.parent)
                if link.is_symlink() and str(link.readlink()) == target:
                    continue
                link.unlink(missing_ok=True)
                link.symlink_to(target)

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise BadInput("blob.bad_digest", "A blob is named by 64 lower-case hexadecimal digits.")
        return self.root / "sha256" / digest[:2] / digest[2:]

    def _blobs(self) -> Iterator[Path]:
        return (self.root / "sha256").glob("??/*")

    def _temporary(self) -> Path:
        self._incoming.mkdir(parents=True, exist_ok=True)
        return self._incoming / secrets.token_hex(12)

    def _link_or_copy(self, path: Path) -> Path:
        """Give the file a second name in the store; copy it when it has other names or lies on another disk."""
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BadInput("blob.not_a_file", f"{path.name} is not a regular file and is not adopted.")
        temporary = self._temporary()
        if status.st_nlink == 1:
            try:
                os.link(path, temporary, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                    raise
            else:
                return temporary
        try:
            with _read_plain(path) as source, _create(temporary) as target:
                shutil.copyfileobj(source, target, _PIECE)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _publish(self, temporary: Path, digest: str) -> None:
        _freeze(temporary)
        place = self._place(digest)
        if not place.parent.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            fsync_directory(place.parent.parent)
            fsync_directory(self.root)
        temporary.replace(place)
        fsync_directory(place.parent)


def _require_content(temporary: Path, name: str, expected_digest: str, expected_size: int) -> None:
    digest, size = hashlib.sha256(), 0
    with _read_plain(temporary) as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    if (digest.hexdigest(), size) != (expected_digest, expected_size):
        raise IntegrityFailure(
            "blob.mismatch",
            f"{name} is not what was announced: {size} bytes with digest {digest.hexdigest()[:12]}…, "
            f"announced were {expected_size} bytes with {expected_digest[:12]}…",
            hint="Run the job again.",
        )


def _freeze(path: Path) -> None:
    """Make a file read-only and durable."""
    with _read_plain(path) as stream:
        os.fchmod(stream.fileno(), 0o444)
        os.fsync(stream.fileno())


def _read_plain(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _safe_parts(path: str) -> tuple[str, ...]:
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise BadInput("blob.path", f"{path!r} is not a path inside a folder.")
    return pure.parts
