"""Data sets of a few rows in the layout of a stored one, and a seed model trained for four steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.jobs.spec import JobKind
from tests.unit.training.task_runs import SEED, workspace


def write_parts(folder: Path, train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> Path:
    for part, rows in (("train", train), ("heldout", heldout)):
        (folder / f"{part}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def turns(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"port {number}?"}, {"role": "assistant", "content": f"Port {8443 + number}."}]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"text": f"The gateway number {number} listens on port 8443."} for number in range(12)]
    return write_parts(tmp_path_factory.mktemp("corpus"), rows, rows[:2])


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"messages": turns(number)} for number in range(8)]
    return write_parts(tmp_path_factory.mktemp("chats"), rows[:6], rows[6:])


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"messages": turns(number)[:1], "chosen": f"Port {8443 + number}.", "rejected": "I do not know."}
        for number in range(8)
    ]
    return write_parts(tmp_path_factory.mktemp("preferences"), rows[:6], rows[6:])


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    from appliance.training import seed_task

    directory = tmp_path_factory.mktemp("base")
    workspace(directory, JobKind.TRAIN_SEED, {"corpus": corpus}, SEED).run(seed_task.run)
    return directory / "out"
