"""Unpacks a source archive whose hash was checked, and still believes nothing in it: plain files only."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tools.bootstrap.narration import SetupFailure


def unpack(archive: Path, folder: Path, *, wanted: Callable[[str], bool]) -> None:
    """Unpack the files whose path `wanted` accepts below `folder`, without the archive's top directory.

    Raises SetupFailure on a link, a device, or a path that leaves the folder: then it is not the archive we know.
    """
    with tarfile.open(archive, "r:gz") as stream:
        for member in stream:
            path = PurePosixPath(member.name)
            parts = path.parts[1:]
            if member.isdir():
                continue
            if not member.isfile() or not parts or ".." in path.parts or path.is_absolute():
                raise SetupFailure(f"{archive} contains {member.name}, which is not a plain file below one folder.")
            if not wanted("/".join(parts)):
                continue
            content = stream.extractfile(member)
            if content is None:
                raise SetupFailure(f"{archive}: {member.name} cannot be read.")
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as out:
                shutil.copyfileobj(content, out)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
