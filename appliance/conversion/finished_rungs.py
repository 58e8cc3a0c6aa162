"""Rungs that an earlier attempt of a ladder finished: their files and figures, so that they are not made again.

A rung lies in the job's checkpoints as a second name of the file in `out`, and its figures, written last, name the
file's digest: what is torn or altered is as good as absent. Knows nothing of how a rung is made.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from appliance.kernel.canonical import sha256_file
from appliance.kernel.durable import write_file


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    digest: str
    figures: dict[str, Any]


def keep_rung(checkpoints: Path, name: str, file: Path, figures: dict[str, Any]) -> None:
    """Keep a finished rung for a later attempt."""
    folder = checkpoints / f"rung-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.link(file, folder / "model.gguf")
    write_file(folder / "figures.json", msgspec.json.encode(_Kept(digest=sha256_file(file), figures=figures)))


def take_rung(checkpoints: Path, name: str, target: Path) -> dict[str, Any] | None:
    """Put a kept rung's file at `target` and return its figures; None when there is none that is whole."""
    folder = checkpoints / f"rung-{name}"
    try:
        kept = msgspec.json.decode((folder / "figures.json").read_bytes(), type=_Kept)
        if sha256_file(folder / "model.gguf") != kept.digest:
            return None
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(folder / "model.gguf", target)
    return kept.figures
