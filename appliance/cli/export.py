"""Copies an exported version out of the store into a person's folder: verified, and whole or not there at all."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath
from typing import Final

from appliance.api import types as t
from appliance.kernel.durable import publish_directory
from appliance.kernel.errors import BadInput, IntegrityFailure, storage_errors
from appliance.kernel.paths import StatePaths

_PIECE: Final = 1 << 20


def require_new(target: Path) -> None:
    """Refuse a folder with something in it. Raises BadInput `export.not_empty`."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise BadInput("export.not_empty", f"{target} is not a folder.", hint="Name a new or empty one.")
    if target.is_dir() and next(target.iterdir(), None) is not None:
        raise BadInput("export.not_empty", f"{target} is not empty.", hint="Name a new or empty folder.")


def write_export(plan: t.ExportPlan, paths: StatePaths, target: Path) -> int:
    """Copy everything beside the target, verify it, then rename; return the bytes written."""
    with storage_errors(f"exporting to {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            size = sum(_write(file, paths, temporary) for file in plan.files)
            if target.exists():
                target.rmdir()  # it is empty, and fails if it no longer is
            publish_directory(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return size


def _write(file: t.ExportFile, paths: StatePaths, folder: Path) -> int:
    parts = PurePosixPath(file.path).parts
    if not parts or PurePosixPath(file.path).is_absolute() or ".." in parts:
        raise IntegrityFailure("export.path", f"The version names a file {file.path!r} outside its folder.")
    place = folder.joinpath(*parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not file.digest:
        place.write_text(file.text, encoding="utf-8")
        return len(file.text.encode())
    digest = hashlib.sha256()
    with paths.blob(file.digest).open("rb") as source, place.open("wb") as sink:
        while piece := source.read(_PIECE):
            digest.update(piece)
            sink.write(piece)
    if digest.hexdigest() != file.digest:
        raise IntegrityFailure(
            "blob.corrupt",
            f"{file.path} of {file.digest[:12]}… does not match its digest.",
            hint="Restore the file from a backup; the disk may be failing.",
        )
    return file.size
