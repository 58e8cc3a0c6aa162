"""Files that are too large for the medium's file system: cut into numbered parts, joined again beside them.

The manifest lists the whole file and every part, so that either form can be verified.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from appliance.kernel.durable import fsync_directory
from installer.bundle.hashing import read_exactly
from installer.bundle.manifest import Entry, Part

_PIECE = 1 << 20


def split_file(root: Path, path: str, part_size: int) -> tuple[Part, ...]:
    """Replace a file by its parts `PATH.part001` … and return them."""
    parts = []
    source = root / path
    with source.open("rb") as stream:
        number = 1
        while True:
            name = f"{path}.part{number:03d}"
            digest, size = hashlib.sha256(), 0
            with (root / name).open("wb") as out:
                while size < part_size and (piece := stream.read(min(_PIECE, part_size - size))):
                    out.write(piece)
                    digest.update(piece)
                    size += len(piece)
            if not size:
                (root / name).unlink()
                break
            parts.append(Part(path=name, size=size, sha256=digest.hexdigest()))
            number += 1
    source.unlink()
    return tuple(parts)


def join_file(root: Path, entry: Entry, out: Path) -> Path:
    """Write the whole file of verified parts below `out`; it appears when it is complete."""
    target = out / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.joining")
    with temporary.open("wb") as stream:
        for part in entry.parts:
            for piece in read_exactly(root / part.path, part.size, shown=part.path):
                stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(target)
    fsync_directory(target.parent)
    return target


def copy_whole(root: Path, entry: Entry, out: Path) -> Path:
    """Copy a file that came whole."""
    target = out / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / entry.path, target)
    return target
