"""What a job is to do. The canonical JSON of a specification is hashed; that digest is the run id.

Two jobs with equal specifications are the same run and must give the same bytes, so everything that decides
the bytes is in here: inputs by digest, parameters, seed, threads, code, library versions, processor flags.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from appliance.kernel.canonical import digest_of, sha256_file


class JobKind(StrEnum):
    """The kinds of work; each is one function in `appliance.jobs.tasks`."""

    IMPORT_MODEL = "model.import"
    IMPORT_DATASET = "dataset.import"
    CHECK_DATASET = "dataset.check"
    SPLIT_DATASET = "dataset.split"
    GENERATE_DATASET = "dataset.generate"
    TRAIN_SEED = "train.seed"
    TRAIN_LORA = "train.lora"
    TRAIN_FULL = "train.full"
    TRAIN_PRETRAIN = "train.pretrain"
    TRAIN_DPO = "train.dpo"
    TRAIN_CLASSIFY = "train.classify"
    TRAIN_TAG = "train.tag"
    TRAIN_DISTIL = "train.distil"
    TRAIN_PRUNE = "train.prune"
    IMPORT_SUITE = "suite.import"
    EVALUATE = "evaluate"
    CONVERT_GGUF = "convert.gguf"
    CONVERT_LADDER = "convert.ladder"
    CONVERT_ADAPTER = "convert.adapter"
    TUNE = "tune"
    SEARCH_ASK = "search.ask"


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an input or output: path relative to its folder, SHA-256, size in bytes."""

    path: str
    digest: str
    size: int


def file_entry(folder: Path, path: str) -> FileEntry:
    """Return the entry of the file at `path`, relative to its folder, as it is now."""
    file = folder / path
    return FileEntry(path=path, digest=sha256_file(file), size=file.stat().st_size)


class InputRef(msgspec.Struct, frozen=True, kw_only=True):
    """An input folder: what a person called it, the digest of its manifest, and its files."""

    ref: str
    digest: str
    files: tuple[FileEntry, ...]


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a run's identity that is the machine and the software."""

    code: str
    packages: dict[str, str]
    threads: int
    device: str
    cpu: str


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a data set's training rows is held out instead of its own held-out part: `index` of `of`."""

    input: str
    index: int
    of: int
    seed: int


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole of one run. `parameters` is a JSON object whose form belongs to the kind."""

    kind: JobKind
    inputs: dict[str, InputRef]
    parameters: dict[str, Any]
    seed: int
    environment: Environment
    fold: Fold | None = None
    """left out of the canonical JSON where there is none"""

    @property
    def run_id(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return digest_of(msgspec.to_builtins(self))


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a job sealed: figures for people and gates, and the files below `out/`."""

    summary: dict[str, Any]
    files: tuple[FileEntry, ...] = ()

    @property
    def digest(self) -> str:
        """Manifest digest of the output files: sorted (path, digest, size)."""
        return manifest_digest(self.files)


def manifest_digest(files: tuple[FileEntry, ...]) -> str:
    """Return the digest that names a set of files: SHA-256 over its sorted canonical listing."""
    return digest_of([msgspec.to_builtins(entry) for entry in sorted(files, key=lambda entry: entry.path)])
