"""Tuning on a real box: measured in processes of their own, kept as a profile, used by the next engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.box import Box, Refused, running_box, wait_for
from tests.factories.tiny_llama import make_tiny_gguf

QUICK = ("--threads", "1", "--ubatch", "64,128", "--prompt", "16", "--answer", "4", "--streams", "2", "--repeats", "1")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    model = make_tiny_gguf(tmp_path_factory.mktemp("tiny"))
    with running_box(tmp_path_factory.mktemp("box")) as started:
        started.verb("model", "import", str(model), "--name", "tiny", "--licence", "Apache-2.0")
        yield started


def test_a_tuning_run_measures_each_setting_and_the_next_engine_uses_the_best(box: Box) -> None:
    job = box.verb("tune", "tiny@1", "--formats", "q8_0", *QUICK)
    found = job["summary"]
    assert [(one["format"], one["threads"], one["ubatch"]) for one in found["measurements"]] == [
        ("F32", 1, 64),
        ("F32", 1, 128),
        ("Q8_0", 1, 64),
        ("Q8_0", 1, 128),
    ]
    sizes = {one["format"]: one["size"] for one in found["measurements"]}
    assert sizes["Q8_0"] < sizes["F32"] / 2
    for one in found["measurements"]:
        assert one["build"].endswith(" kernels")
        assert min(one["speed"].values()) > 0
        assert one["bandwidth_share"] > 0  # more than 1 where so small a model lies in the processor's cache
        assert 0 < one["peak_share"] < 1
    assert found["rooflines"][0]["bandwidth"] > 1e8
    assert not list((box.paths.job(job["id"]) / "scratch").glob("*.gguf"))
    box.verb("deploy", "tiny@1", "--as", "tiny", "--override", "a test")
    pid = box.pid("engine-")
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    assert argv[argv.index("--threads") + 1] == "1"
    assert argv[argv.index("--ubatch") + 1] == str(found["profile"]["ubatch"])
    assert box.verb("serving", "show")["models"][0]["tuned"] == job["id"]


def test_bad_input_is_refused_before_anything_is_queued(box: Box) -> None:
    before = len(box.verb("job", "list"))
    for arguments in (("--formats", "q5_x"), ("--threads", "0"), ("--threads", "many"), ("--ubatch", "5000")):
        with pytest.raises(Refused) as refused:
            box.verb("tune", "tiny@1", *arguments)
        assert (refused.value.code, refused.value.status) == ("tune.parameters", 2)
    with pytest.raises(Refused) as refused:
        box.verb("tune", "absent")
    assert refused.value.code == "model.unknown"
    assert len(box.verb("job", "list")) == before


def test_a_run_can_be_cancelled_in_the_middle_of_a_measurement(box: Box) -> None:
    job = box.verb("tune", "tiny@1", "--formats", "none", "--repeats", "20", "--answer", "1000", "--detach")
    wait_for(lambda: _measuring(box, job["id"]), what="a measurement runs")
    box.verb("job", "cancel", job["id"])
    wait_for(lambda: box.verb("job", "show", job["id"])["job"]["state"] == "cancelled", what="the job ends")
    assert not _measuring(box, job["id"])


def _measuring(box: Box, job: str) -> bool:
    wanted = os.fsencode(str(box.paths.job(job)))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"appliance.tuning.measure" in argv and wanted in argv:
                return True
    return False
