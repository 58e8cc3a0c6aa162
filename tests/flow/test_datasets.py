"""A data set from a file to a model's lineage by real verbs and real jobs, and a job killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.factories.box import Box, Refused, running_box
from tests.factories.tiny_llama import make_tiny_llama

_PATIENCE = 60.0


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with running_box(tmp_path_factory.mktemp("box")) as started:
        yield started


def write_questions(path: Path, count: int) -> Path:
    kinds = ("card", "cash", "loan")
    rows = []
    for i in range(count):
        kind = kinds[i % 3]
        text = f"Question {i} about my {kind}, case {i * 7919}"
        rows.append({"text": text, "intent": kind, "day": f"2026-01-{i % 28 + 1:02}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_data_set_is_imported_checked_split_compared_exported_and_removed(box: Box, tmp_path: Path) -> None:
    source = write_questions(tmp_path / "q.jsonl", 300)
    source.write_text(
        source.read_text() + '{"text": "write to a@b.org", "intent": "card", "day": "2026-01-01"}\nbroken\n'
    )
    shown = box.verb("dataset", "import", str(source), "--name", "q", "--keep", "day")
    assert shown["dataset"]["form"] == "classification"
    assert shown["personal"] == {"email": 1}
    assert shown["rejected"][0]["line"] == 302
    report = box.verb("dataset", "check", "q")
    assert {finding["code"] for finding in report["findings"]} >= {"personal"}
    assert box.verb("dataset", "show", "q")["check"] == report
    split = box.verb("dataset", "split", "q@1", "--by", "time:day", "--train", "75", "--heldout", "25")
    assert split["dataset"]["ref"] == "q@2"
    assert split["origin"]["from"] == "q@1"
    difference = box.verb("dataset", "diff", "q@1", "q@2")
    assert difference["moved"]["heldout"] > 0
    assert difference["added"] == {"train": 0, "heldout": 0}
    file = tmp_path / "q.parquet"
    assert box.verb("dataset", "export", "q@2", str(file))["rows"] == 301
    assert set(pq.read_table(file).column_names) == {"text", "label", "day", "split"}
    again = box.verb("dataset", "import", str(file), "--name", "again", "--keep", "day")
    assert (again["dataset"]["train_rows"], again["dataset"]["heldout_rows"]) == (
        split["dataset"]["train_rows"],
        split["dataset"]["heldout_rows"],
    )
    box.verb("dataset", "remove", "again", "--yes")
    with pytest.raises(Refused) as refused:
        box.verb("dataset", "show", "again")
    assert refused.value.code == "dataset.unknown"
    actions = [entry["action"] for entry in box.verb("audit", "list")["entries"]]
    assert {"dataset.register", "dataset.read", "dataset.remove"} <= set(actions)


def test_an_import_that_is_killed_gives_the_same_bytes(box: Box, tmp_path: Path) -> None:
    source = write_questions(tmp_path / "big.jsonl", 12_000)
    undisturbed = box.verb("dataset", "import", str(source), "--name", "whole")
    argv = [sys.executable, "-I", "-m", "appliance.cli.main", "dataset", "import", str(source), "--name", "killed"]
    verb = subprocess.Popen(
        [*argv, "--state", str(box.paths.root), "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    os.kill(worker_of(box), signal.SIGKILL)
    answer, _ = verb.communicate(timeout=_PATIENCE)
    assert verb.returncode == 0
    assert json.loads(answer)["dataset"]["digest"] == undisturbed["dataset"]["digest"]
    assert box.verb("job", "list")[0]["attempt"] == 2


def worker_of(box: Box) -> int:
    """Return the process that does the newest job, once it has begun to read."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["pid", "cmdline"]):
            argv = process.info["cmdline"] or []
            if "appliance.jobs.worker" not in argv or not argv[-1].startswith(str(box.paths.root)):
                continue
            if (Path(argv[-1]) / "scratch" / "rows.jsonl").exists():
                return int(process.info["pid"])
    raise AssertionError("no job process was seen")


def test_what_a_model_writes_is_marked_where_it_is_and_in_what_is_trained_on_it(box: Box, tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "tiny")
    # A random model that ends its answers soon: every second token is an end.
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(range(128, 384))}))
    box.verb("model", "import", str(folder), "--name", "writer")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("What is it?\nWho is there?\n")
    made = box.verb(
        "dataset", "generate", "--model", "writer", "--prompts", str(prompts), "--count", "3", "--name", "made",
        "--temperature", "3", "--top-p", "1",
    )  # fmt: skip
    assert made["dataset"]["synthetic"] is True
    assert made["synthetic"]["model"] == "writer@1"
    run = box.verb("train", "seed", "--corpus", "made", *settings())
    box.verb("model", "register", f"run:{run['id']}", "--name", "child")
    lineage = box.verb("model", "show", "child")["lineage"]
    assert lineage["synthetic"] == ["made@1"]
    with pytest.raises(Refused) as refused:
        box.verb("dataset", "remove", "made", "--yes")
    assert refused.value.code == "dataset.in_use"


def settings() -> list[str]:
    """Return the smallest training there is."""
    chosen = {
        "steps": 2,
        "vocabulary": 300,
        "hidden_size": 16,
        "intermediate_size": 16,
        "layers": 1,
        "sequence_length": 16,
    }
    return [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
