from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from appliance.datasets.prepare import HELDOUT, TRAIN
from appliance.jobs.spec import Environment, InputRef, JobKind, JobSpec
from appliance.jobs.workspace import Workspace

Rows = Sequence[Mapping[str, Any]]


class Opener(Protocol):
    def __call__(
        self, kind: JobKind, inputs: Mapping[str, Mapping[str, bytes]], *, seed: int = 0, **parameters: Any
    ) -> Workspace: ...


@pytest.fixture
def open_job(tmp_path: Path) -> Iterator[Opener]:
    """Lay out a job whose input folders have these files; event logs are closed at the end."""
    opened: list[Workspace] = []

    def make(
        kind: JobKind, inputs: Mapping[str, Mapping[str, bytes]], *, seed: int = 0, **parameters: Any
    ) -> Workspace:
        directory = tmp_path / "state" / "jobs" / str(len(opened))
        for folder in ("out", "checkpoints", "scratch"):
            (directory / folder).mkdir(parents=True)
        for name, files in inputs.items():
            for file, data in files.items():
                path = directory / "in" / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        spec = JobSpec(
            kind=kind,
            inputs={name: InputRef(ref=f"{name}@1", digest=name, files=()) for name in inputs},
            parameters=parameters,
            seed=seed,
            environment=Environment(code="", packages={}, threads=1, device="cpu", cpu=""),
        )
        (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
        opened.append(Workspace(directory))
        return opened[-1]

    yield make
    for workspace in opened:
        workspace.close()


def stored(train: Rows, heldout: Rows = (), **report: Any) -> dict[str, bytes]:
    """Return the files of a stored data set."""
    return {
        f"{TRAIN}.jsonl": lines(train),
        f"{HELDOUT}.jsonl": lines(heldout),
        "report.json": json.dumps(report | {"statistics": {"rows": len(train) + len(heldout)}}).encode(),
    }


def lines(rows: Rows) -> bytes:
    return b"".join(json.dumps(row, sort_keys=True, separators=(",", ":")).encode() + b"\n" for row in rows)


def written(workspace: Workspace, part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workspace.output / f"{part}.jsonl").read_text().splitlines()]


def labelled(text: str, label: str, **meta: str) -> dict[str, Any]:
    return {"text": text, "label": label} | ({"meta": meta} if meta else {})


def asked(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
