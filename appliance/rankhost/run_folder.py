"""One run on the disk of the box that trains for it: a job's directory, with given/SHA256 beside what every job has.

What is written here comes from another box, so every name is checked before it is used as a path.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeVar

import msgspec

from appliance.jobs.spec import FileEntry, JobSpec, TaskResult
from appliance.jobs.workspace import PLACEMENT
from appliance.kernel.canonical import sha256_file
from appliance.kernel.durable import fsync_file, write_file
from appliance.kernel.errors import BadInput, Conflict, IntegrityFailure, NotFound, storage_errors
from appliance.kernel.problem import Problem

D = TypeVar("D")

_INPUT: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SPEC, _ERROR, _RESULT, _GIVEN = "spec.json", "error.json", "result.json", "given"


class RunFolder:
    """The directory of one run, there or not."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = directory.name

    @property
    def spec(self) -> JobSpec:
        """What the run is. Raises NotFound where there is none."""
        spec = self._read(_SPEC, JobSpec)
        if spec is None:
            raise NotFound("rankhost.no_run", f"There is no run {self.key} here.")
        return spec

    @property
    def problem(self) -> Problem | None:
        """Why it failed, also while others of its ranks still wait."""
        return self._read(_ERROR, Problem)

    @property
    def result(self) -> TaskResult | None:
        """What it sealed."""
        return self._read(_RESULT, TaskResult)

    @property
    def events(self) -> Path:
        """Its log of events."""
        return self.directory / "events.jsonl"

    def state(self, *, running: bool) -> Literal["laid_out", "running", "succeeded", "failed", "stopped"]:
        """Return how the run fares."""
        if running:
            return "running"
        if (self.directory / _RESULT).exists():
            return "succeeded"
        if (self.directory / _ERROR).exists():
            return "failed"
        return "stopped" if (self.directory / PLACEMENT).exists() else "laid_out"

    def missing(self) -> tuple[str, ...]:
        """Return the digests of the files that were not given yet."""
        return tuple(sorted({entry.digest for entry in _entries(self.spec) if not self._has(entry)}))

    def lay_out(self, spec: JobSpec) -> None:
        """Make the directory, or find it again. Raises BadInput (names), or Conflict where it is another run's."""
        for name in spec.inputs:
            if not _INPUT.fullmatch(name):
                raise BadInput("rankhost.path", f"{name[:200]!r} cannot be the name of an input.")
        for entry in _entries(spec):
            _require_inside(entry)
        with storage_errors("laying out a run"):
            found = self._read(_SPEC, JobSpec)
            if found is not None and found.run_id != spec.run_id:
                raise Conflict("rankhost.other_run", f"The run {self.key} is another one here.")
            (self.directory / _GIVEN).mkdir(parents=True, exist_ok=True)
            if found is None:
                write_file(self.directory / _SPEC, msgspec.json.encode(spec))
            if (problem := self.problem) is not None and problem.code == "blob.corrupt":
                self._give_up_damaged()

    async def receive(self, digest: str, pieces: AsyncIterator[bytes]) -> None:
        """Keep a file that the run declares. Raises BadInput (not declared, too long) or IntegrityFailure."""
        sizes = {entry.digest: entry.size for entry in _entries(self.spec)}
        if digest not in sizes:
            raise BadInput("rankhost.not_declared", f"The run {self.key} declares no file {digest[:12]}….")
        target = self.directory / _GIVEN / digest
        arriving = target.with_name(f"{digest}.{time.monotonic_ns()}.part")
        found, size = sha256(), 0
        with storage_errors("receiving a file"):
            try:
                with arriving.open("wb") as stream:
                    async for piece in pieces:
                        size += len(piece)
                        if size > sizes[digest]:
                            raise BadInput("rankhost.too_long", f"The file {digest[:12]}… is longer than declared.")
                        found.update(piece)
                        await asyncio.to_thread(stream.write, piece)
                if found.hexdigest() != digest:
                    raise IntegrityFailure("rankhost.corrupt", f"The file {digest[:12]}… arrived with other bytes.")
                await asyncio.to_thread(fsync_file, arriving)
                arriving.rename(target)
            finally:
                arriving.unlink(missing_ok=True)

    def make_ready(self, placement: dict[str, Any]) -> None:
        """Lay out the inputs of an attempt and say where its ranks are; what an earlier one ended with goes."""
        with storage_errors("laying out a run"):
            for before in (_ERROR, _RESULT):
                (self.directory / before).unlink(missing_ok=True)
            shutil.rmtree(self.directory / "in", ignore_errors=True)
            for name, given in self.spec.inputs.items():
                for entry in given.files:
                    target = self.directory / "in" / name / entry.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(self.directory / _GIVEN / entry.digest, target)
            write_file(self.directory / PLACEMENT, msgspec.json.encode(placement))

    def fail(self, problem: Problem) -> None:
        """Write down why it failed, for a run that could not."""
        if not (self.directory / _ERROR).exists():
            write_file(self.directory / _ERROR, msgspec.json.encode(problem))

    def made(self, path: str) -> Path:
        """Return a file that the run made. Raises NotFound."""
        result = self.result
        if result is None or path not in {entry.path for entry in result.files}:
            raise NotFound("rankhost.no_file", f"The run {self.key} made no file {path[:200]}.")
        return self.directory / "out" / path

    def give_up_inputs(self) -> None:
        """Remove what was given; it is given again when the run goes on."""
        for folder in (_GIVEN, "in"):
            shutil.rmtree(self.directory / folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove everything, the checkpoints too."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _has(self, entry: FileEntry) -> bool:
        try:
            return (self.directory / _GIVEN / entry.digest).stat().st_size == entry.size
        except FileNotFoundError:
            return False

    def _give_up_damaged(self) -> None:
        """Remove given files whose bytes are no longer those that they are named after."""
        for file in (self.directory / _GIVEN).iterdir():
            if sha256_file(file) != file.name:
                file.unlink()

    def _read(self, name: str, form: type[D]) -> D | None:
        try:
            return msgspec.json.decode((self.directory / name).read_bytes(), type=form)
        except FileNotFoundError:
            return None


def give_up_half_files(folder: Path) -> None:
    """Remove what was arriving for any run below `folder` when its rank host died."""
    for left in folder.glob(f"*/{_GIVEN}/*.part"):
        left.unlink()


def _entries(spec: JobSpec) -> list[FileEntry]:
    return [entry for given in spec.inputs.values() for entry in given.files]


def _require_inside(entry: FileEntry) -> None:
    """Refuse a path that leads out of its folder, and a digest that is none."""
    parts = PurePosixPath(entry.path).parts
    plain = bool(parts) and not entry.path.startswith("/") and ".." not in parts and "\0" not in entry.path
    if not plain or not _DIGEST.fullmatch(entry.digest):
        raise BadInput("rankhost.path", f"{entry.path[:200]!r} cannot be the path of an input.")
