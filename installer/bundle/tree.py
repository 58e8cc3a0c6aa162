"""Looks at what lies on a medium before anything of it is read: names and sizes, plain files and folders alone."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.kernel.errors import IntegrityFailure, NotFound
from installer.bundle.layout import check_path, check_twins


def scan(root: Path) -> dict[str, int]:
    """Return path -> size of every file below `root`.

    Raises NotFound, or IntegrityFailure for a link, a device, a name that is not allowed, or names that differ in
    case alone.
    """
    if not root.is_dir():
        raise NotFound("bundle.not_found", f"There is no folder {root}.", hint="Is the medium mounted?")
    found: dict[str, int] = {}
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if entry.is_symlink():
                    raise IntegrityFailure(
                        "bundle.symlink", f"{path!r} is a symbolic link; a bundle holds plain files alone."
                    )
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((folder / entry.name, f"{path}/"))
                    check_path(path)
                elif entry.is_file(follow_symlinks=False):
                    found[check_path(path)] = entry.stat(follow_symlinks=False).st_size
                else:
                    raise IntegrityFailure(
                        "bundle.special", f"{path!r} is a device, a socket or a pipe; a bundle holds plain files alone."
                    )
    check_twins(found)
    return found
