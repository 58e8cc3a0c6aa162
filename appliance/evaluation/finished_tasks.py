"""What an interrupted evaluation keeps: each finished task as one sealed file, so that only the open one is repeated.

A file that does not verify, or belongs to another run, is reported and its task is done again.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.evaluation.outcome import TaskOutcome
from appliance.kernel.canonical import canonical_json, sha256_hex
from appliance.kernel.durable import write_file
from appliance.kernel.errors import storage_errors
from appliance.kernel.events import CheckpointSaved, CheckpointSkipped


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    sha256: str
    outcome: msgspec.Raw


class FinishedTasks:
    """The files of one run, one for each place in the suite."""

    def __init__(self, directory: Path, *, run: str) -> None:
        self._directory = directory
        self._run = run

    def load(self, place: int) -> TaskOutcome | CheckpointSkipped | None:
        """Return a finished task, why its file cannot be used, or None where there is no file."""
        path = self._path(place)
        if not path.is_file():
            return None
        try:
            sealed = msgspec.json.decode(path.read_bytes(), type=_Sealed)
            outcome = msgspec.json.decode(sealed.outcome, type=TaskOutcome)
        except (OSError, msgspec.MsgspecError) as error:
            return CheckpointSkipped(name=path.name, reason=f"it cannot be read: {error}")
        if sealed.run != self._run:
            return CheckpointSkipped(name=path.name, reason="it belongs to another run")
        if sha256_hex(bytes(sealed.outcome)) != sealed.sha256:
            return CheckpointSkipped(name=path.name, reason="it does not match its hash")
        return outcome

    def save(self, place: int, outcome: TaskOutcome) -> CheckpointSaved:
        """Seal a finished task."""
        body = canonical_json(msgspec.to_builtins(outcome))
        digest = sha256_hex(body)
        document = _Sealed(run=self._run, sha256=digest, outcome=msgspec.Raw(body))
        with storage_errors("keeping a finished task"):
            write_file(self._path(place), msgspec.json.encode(document))
        return CheckpointSaved(step=place + 1, digest=digest)

    def _path(self, place: int) -> Path:
        return self._directory / f"task-{place:04d}.json"
