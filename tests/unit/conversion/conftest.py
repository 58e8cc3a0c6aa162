"""One conversion for the whole package: it costs seconds, and every test reads the same result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.conversion.convert_task import run
from appliance.jobs.spec import JobKind
from tests.factories.job_workspace import make_workspace
from tests.factories.tiny_llama import make_tiny_llama, write_rows

QUESTIONS = [(f"Which port does server {number} listen on?", str(8000 + number)) for number in range(6)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A finished conversion job."""

    model: Path
    output: Path
    summary: dict[str, Any]
    events: str


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Convert the tiny model as a job, with a data set and few greedy steps."""
    root = tmp_path_factory.mktemp("conversion")
    model = make_tiny_llama(root / "hf")
    (root / "rows").mkdir()
    write_rows(root / "rows" / "heldout.jsonl", QUESTIONS)
    workspace = make_workspace(
        root / "job",
        JobKind.CONVERT_GGUF,
        inputs={"model": model, "dataset": root / "rows"},
        parameters={"parity_prompts": 4, "parity_tokens": 16, "name": "tiny"},
    )
    summary = run(workspace)
    workspace.close()
    events = (workspace.directory / "events.jsonl").read_text()
    return Converted(model=model, output=workspace.output, summary=summary, events=events)
