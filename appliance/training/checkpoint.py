"""Sealed checkpoints: tensors in safetensors, counters in JSON, a manifest of hashes, published by a rename.

    step-00000120/  tensors.safetensors  state.json  MANIFEST.json

The newest checkpoint whose every byte verifies wins; the others are reported and removed. Nothing is ever
unpickled, and a checkpoint of another run (another fingerprint) is not valid here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file
from torch import Tensor

from appliance.kernel.canonical import canonical_json, digest_of, sha256_file
from appliance.kernel.durable import publish_directory
from appliance.kernel.errors import IntegrityFailure, storage_errors
from appliance.kernel.events import CheckpointSkipped

_TENSORS = "tensors.safetensors"
_STATE = "state.json"
_MANIFEST = "MANIFEST.json"
_NAME = re.compile(r"step-(\d{8})")
_KEPT = 2
_DTYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
}


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sha256: str
    size: int


class _Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    fingerprint: str
    step: int
    files: dict[str, _Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a training loop needs to go on: after how many steps, its tensors, its counters."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


class CheckpointStore:
    """The checkpoints of one run below one directory."""

    def __init__(self, directory: Path, *, fingerprint: str) -> None:
        self._directory = directory
        self._fingerprint = fingerprint

    def save(self, checkpoint: Checkpoint) -> str:
        """Seal and publish a checkpoint, keep the last two, return its digest. Raises StorageFailure.

        When it fails, what was written of it is removed: on a full disk the space is needed to say so.
        """
        final = self._directory / f"step-{checkpoint.step:08d}"
        temporary = final.with_suffix(".tmp")
        with storage_errors(f"saving the checkpoint of step {checkpoint.step}"):
            self._directory.mkdir(parents=True, exist_ok=True)
            for leftover in self._directory.glob("*.tmp"):
                shutil.rmtree(leftover)
            try:
                temporary.mkdir()
                document = self._write(checkpoint, temporary)
                if final.exists():
                    shutil.rmtree(final)
                publish_directory(temporary, final)
            except OSError:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            for old in self._found()[_KEPT:]:
                shutil.rmtree(old)
        return digest_of(document)

    def _write(self, checkpoint: Checkpoint, folder: Path) -> dict[str, Any]:
        """Write a checkpoint's files and return its manifest."""
        _write_tensors(checkpoint.tensors, folder / _TENSORS)
        (folder / _STATE).write_bytes(canonical_json(dict(checkpoint.state)))
        manifest = _Manifest(
            fingerprint=self._fingerprint,
            step=checkpoint.step,
            files={name: _entry(folder / name) for name in (_TENSORS, _STATE)},
        )
        document: dict[str, Any] = msgspec.to_builtins(manifest)
        (folder / _MANIFEST).write_bytes(canonical_json(document))
        return document

    def newest(self) -> tuple[Checkpoint | None, list[CheckpointSkipped]]:
        """Return the newest valid checkpoint, or None, and what had to be skipped (and was removed)."""
        skipped: list[CheckpointSkipped] = []
        for candidate in self._found():
            try:
                return self._load(candidate), skipped
            except IntegrityFailure as failure:
                skipped.append(CheckpointSkipped(name=candidate.name, reason=failure.message))
                # Removed, so that it never counts as one of the two that are kept.
                with storage_errors(f"removing the damaged checkpoint {candidate.name}"):
                    shutil.rmtree(candidate)
        return None, skipped

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of later steps than this one."""
        for candidate in self._found():
            if int(candidate.name.removeprefix("step-")) > step:
                with storage_errors(f"removing the checkpoint {candidate.name}"):
                    shutil.rmtree(candidate)

    def _found(self) -> list[Path]:
        """Published checkpoints, newest first."""
        if not self._directory.is_dir():
            return []
        return sorted((path for path in self._directory.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def _load(self, directory: Path) -> Checkpoint:
        try:
            manifest = msgspec.json.decode((directory / _MANIFEST).read_bytes(), type=_Manifest)
        except (OSError, msgspec.DecodeError) as error:
            raise _invalid("its manifest cannot be read") from error
        if manifest.fingerprint != self._fingerprint:
            raise _invalid("it belongs to another run")
        if directory.name != f"step-{manifest.step:08d}" or set(manifest.files) != {_TENSORS, _STATE}:
            raise _invalid("its manifest does not fit its folder")
        for name, entry in manifest.files.items():
            try:
                found = _entry(directory / name)
            except OSError as error:
                raise _invalid(f"{name} cannot be read") from error
            if found != entry:
                raise _invalid(f"{name} does not match its hash")
        return Checkpoint(
            step=manifest.step,
            tensors=load_file(directory / _TENSORS),
            state=msgspec.json.decode((directory / _STATE).read_bytes(), type=dict[str, Any]),
        )


def _write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file tensor by tensor; the library's own writer copies all of them first."""
    header: dict[str, Any] = {}
    place = 0
    for name, tensor in sorted(tensors.items()):
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + size],
        }
        place += size
    document = canonical_json(header)
    document += b" " * (-len(document) % 8)
    with file.open("wb") as stream:
        stream.write(len(document).to_bytes(8, "little") + document)
        for _, tensor in sorted(tensors.items()):
            stream.write(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)


def _entry(file: Path) -> _Entry:
    return _Entry(sha256=sha256_file(file), size=file.stat().st_size)


def _invalid(reason: str) -> IntegrityFailure:
    return IntegrityFailure("training.checkpoint_invalid", reason)
