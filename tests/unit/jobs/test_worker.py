from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.jobs.spec import Environment, FileEntry, InputRef, JobKind, JobSpec, TaskResult
from appliance.jobs.workspace import EXIT_INTERRUPTED
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.problem import Problem

ROWS = b'{"prompt": "a", "answer": "b"}\n{"prompt": "c", "answer": "d"}\n'


def lay_out(tmp_path: Path, *, source: Path, inputs: dict[str, InputRef] | None = None, **parameters: Any) -> Path:
    directory = tmp_path / "state" / "jobs" / "1"
    directory.mkdir(parents=True)
    spec = JobSpec(
        kind=JobKind.IMPORT_DATASET,
        inputs=inputs or {},
        parameters={"source": str(source), "name": "faq", "mapping": {}, "heldout_percent": 10} | parameters,
        seed=0,
        environment=Environment(code="", packages={}, threads=1, device="cpu", cpu=""),
    )
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    return directory


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    return path


def start(directory: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-m", "appliance.jobs.worker", str(directory)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE)


def work(directory: Path) -> int:
    process = start(directory)
    process.communicate(timeout=60)
    return process.returncode


def problem(directory: Path) -> Problem:
    return msgspec.json.decode((directory / "error.json").read_bytes(), type=Problem)


def test_a_finished_job_is_sealed_with_the_digests_of_its_files(tmp_path: Path, source: Path) -> None:
    directory = lay_out(tmp_path, source=source)
    assert work(directory) == 0
    result = msgspec.json.decode((directory / "result.json").read_bytes(), type=TaskResult)
    assert [entry.path for entry in result.files] == ["heldout.jsonl", "rejected.jsonl", "report.json", "train.jsonl"]
    for entry in result.files:
        data = (directory / "out" / entry.path).read_bytes()
        assert (entry.digest, entry.size) == (sha256_hex(data), len(data))
    assert not (directory / "error.json").exists()


def test_what_a_killed_predecessor_left_is_cleared_away(tmp_path: Path, source: Path) -> None:
    directory = lay_out(tmp_path, source=source)
    for stale in ("out/stale", "scratch/stale", "checkpoints/kept"):
        (directory / stale).parent.mkdir()
        (directory / stale).write_text("x")
    (directory / "events.jsonl").write_bytes(b'{"whole": 1}\n{"half": ')
    assert work(directory) == 0
    lines = (directory / "events.jsonl").read_bytes().splitlines()
    assert lines[0] == b'{"whole": 1}'
    assert all(msgspec.json.decode(line) for line in lines)
    assert not list(directory.glob("*/stale"))
    assert (directory / "checkpoints" / "kept").exists()


def test_an_expected_error_is_a_document_and_an_exit_status(tmp_path: Path) -> None:
    directory = lay_out(tmp_path, source=tmp_path / "absent.jsonl")
    assert work(directory) == problem(directory).exit_code == 3
    assert problem(directory).code == "source.missing"
    assert not (directory / "result.json").exists()


def test_an_input_that_changed_on_the_disk_stops_the_job_before_its_work(tmp_path: Path, source: Path) -> None:
    given = InputRef(ref="base@1", digest="", files=(FileEntry(path="model", digest=sha256_hex(b"good"), size=4),))
    directory = lay_out(tmp_path, source=source, inputs={"base": given})
    (directory / "in" / "base").mkdir(parents=True)
    (directory / "in" / "base" / "model").write_bytes(b"evil")
    assert work(directory) == 7
    assert problem(directory).code == "blob.corrupt"
    assert "base@1" in problem(directory).message


def test_a_defect_is_reported_as_one_and_its_trace_goes_to_the_log(tmp_path: Path, source: Path) -> None:
    directory = lay_out(tmp_path, source=source)
    (directory / "spec.json").write_text("{}")
    process = start(directory)
    trace = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 70
    assert problem(directory).code == "job.defect"
    assert "Traceback" in trace


def test_a_job_that_never_asks_stops_too(tmp_path: Path, source: Path) -> None:
    given = InputRef(ref="base@1", digest="", files=(FileEntry(path="model", digest=sha256_hex(b""), size=0),))
    directory = lay_out(tmp_path, source=source, inputs={"base": given})
    (directory / "in" / "base").mkdir(parents=True)
    os.mkfifo(directory / "in" / "base" / "model")
    process = start(directory)
    with (directory / "in" / "base" / "model").open("wb"):  # it has opened the other end, and reads for ever
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED
    assert not (directory / "error.json").exists()


def test_a_job_that_is_asked_to_stop_says_interrupted(tmp_path: Path) -> None:
    source = tmp_path / "many.jsonl"
    source.write_bytes(b"".join(b'{"prompt": "q %d", "answer": "a"}\n' % number for number in range(400_000)))
    directory = lay_out(tmp_path, source=source)
    process = start(directory)
    deadline = time.monotonic() + 30
    while not (directory / "events.jsonl").exists() or not (directory / "events.jsonl").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED
    assert not (directory / "result.json").exists()
    assert not (directory / "error.json").exists()
