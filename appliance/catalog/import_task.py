"""The job that brings a model in: inspect first, check the disk, copy, and inspect the copy.

The copy is what counts: it must describe itself as the source did, whatever happened to the source meanwhile.
Parameters: `source` (absolute path), `name`, and optionally `licence`, which overrides what the files state.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance.catalog.model_folder import InspectedModel, SourceFile, inspect_model
from appliance.catalog.refusals import printable
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.durable import fsync_directory
from appliance.kernel.errors import Conflict, StorageFailure, storage_errors
from appliance.kernel.events import Note, Progress
from appliance.kernel.paths import StatePaths
from appliance.kernel.sources import identity_of, open_regular, resolve_source

_PIECE = 4 << 20
_MARGIN = 256 << 20


def run(workspace: Workspace) -> dict[str, Any]:
    """Copy the model into `workspace.output` and return its description.

    Raises what `inspect_model` and `resolve_source` raise, StorageFailure `storage.full`, Conflict
    `model.source_changed`, and Interrupted; a restarted job copies from the beginning.
    """
    parameters = workspace.spec.parameters
    source = resolve_source(parameters.get("source"), state=StatePaths(workspace.directory.parent.parent))
    workspace.emit(Progress(phase="inspect"))
    inspected = inspect_model(source)
    if inspected.left_out:
        workspace.emit(Note(text=f"{len(inspected.left_out)} other file(s) of the folder are not taken."))
    with storage_errors("preparing the copy"):
        shutil.rmtree(workspace.output, ignore_errors=True)
        workspace.output.mkdir(parents=True)
        require_space(inspected.description.size, free=shutil.disk_usage(workspace.output).free)
    _copy_all(workspace, inspected)
    _require_same(inspected, workspace.output)
    workspace.emit(Progress(phase="copy", fraction=1.0))
    summary: dict[str, Any] = msgspec.to_builtins(inspected.description)
    licence = parameters.get("licence")
    if isinstance(licence, str) and licence:
        summary["licence"] = printable(licence)
    return summary | {"left_out": list(inspected.left_out[:100])}


def require_space(size: int, *, free: int) -> None:
    """Raise StorageFailure `storage.full` unless `size` bytes and a margin fit into `free` bytes."""
    needed = size + max(_MARGIN, size // 50)
    if needed > free:
        raise StorageFailure(
            "storage.full",
            f"The model needs {needed} bytes and the disk has {free} free; nothing was copied.",
            hint="Remove models that are no longer needed, or enlarge the volume.",
        )


def copy_file(source: SourceFile, target: Path, *, on_bytes: Callable[[int], None]) -> None:
    """Copy one inspected file durably. Raises Conflict `model.source_changed` or StorageFailure."""
    with open_regular(source.path) as stream, storage_errors(f"copying {source.name}"), target.open("xb") as copy:
        # A source that grows while it is read must not be followed to the end of the disk.
        while identity_of(stream) == source.identity and (piece := stream.read(_PIECE)):
            copy.write(piece)
            on_bytes(len(piece))
        copy.flush()
        os.fsync(copy.fileno())
        if identity_of(stream) != source.identity or copy.tell() != source.identity.size:
            raise _changed(source.name)


def _copy_all(workspace: Workspace, inspected: InspectedModel) -> None:
    total, done = inspected.description.size, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if workspace.stop_requested():
            raise Interrupted
        if done < total:
            workspace.emit(Progress(phase="copy", fraction=done / total))

    for file in inspected.files:
        target = workspace.output / file.name
        with storage_errors("making the copy's folder"):
            target.parent.mkdir(exist_ok=True)
        copy_file(file, target, on_bytes=advance)
    with storage_errors("finishing the copy"):
        for folder in {workspace.output, *((workspace.output / file.name).parent for file in inspected.files)}:
            fsync_directory(folder)


def _require_same(inspected: InspectedModel, output: Path) -> None:
    copied = inspect_model(output / "model.gguf" if inspected.description.format == "gguf" else output)
    if msgspec.structs.replace(copied.description, name=inspected.description.name) != inspected.description:
        raise _changed(output.name)


def _changed(name: str) -> Conflict:
    return Conflict(
        "model.source_changed",
        f"{printable(name)} changed while it was copied.",
        hint="Wait until nothing writes to the source, then import it again.",
    )
