"""The tour, undisturbed and under fire: at least twenty kill -9 of daemon, gateway, engine and job while it runs.

The disturbed tour must end well, lose no acknowledged change, keep an audit trail that verifies, and fine-tune to
weights with the same SHA-256 as the undisturbed one.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.daemon.sandbox import network_prefix
from benchmarks.processes import free_port
from tests.factories.box import Box, run_verb

_KILLS = 20
_VICTIMS = ("daemon", "gateway", "engine-", "job-")


@dataclass
class Walked:
    """One finished tour."""

    box: Box
    summary: dict[str, Any]
    kills: Counter[str] = field(default_factory=Counter)
    again: dict[str, Any] = field(default_factory=dict)


_TWICE_WITH_LOOPBACK_ONLY = """
import fcntl, os, socket, struct, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # netdevice(7): SIOCSIFFLAGS, IFF_UP
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh", b"lo", 1))
with socket.create_server(("127.0.0.1", int(sys.argv[2]))):
    for summary in ("tour.json", "again.json"):
        subprocess.run(sys.argv[3:], check=True, env={**os.environ, "TOUR_JSON": os.path.join(sys.argv[1], summary)})
"""


def walk(root: Path, *options: str, cut_network: bool = False) -> tuple[Box, subprocess.Popen[bytes], Path]:
    """Start a tour as a process of its own; with `cut_network` two, in a namespace that has only a loopback.

    There the port above the tour's own, which the restored appliance would take, belongs to another program.
    """
    box = Box(root / "state", free_port())
    summary = root / "tour.json"
    argv = [sys.executable, "-I", "-m", "appliance.cli.main", "tour", "--state", str(box.paths.root)]
    argv += ["--port", str(box.port), "--keep", *options]
    if cut_network:
        prefix = network_prefix()
        assert prefix is not None, "this machine allows no network namespace; run the tests as root"
        argv = [*prefix, sys.executable, "-I", "-c", _TWICE_WITH_LOOPBACK_ONLY, str(root), str(box.port + 1), *argv]
    with (root / "tour.log").open("wb") as log:
        process = subprocess.Popen(
            argv,
            env={**os.environ, "TOUR_JSON": str(summary)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return box, process, summary


@contextmanager
def stopped_afterwards(box: Box) -> Iterator[None]:
    """Stop the appliance that a tour left running, also after a tour that failed."""
    try:
        yield
    finally:
        stopped = run_verb("down", state=box.paths.root)
    assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    """A tour that nobody disturbs, and a second one, without any network; their appliance still runs."""
    root = tmp_path_factory.mktemp("calm")
    box, process, summary = walk(root, cut_network=True)
    with stopped_afterwards(box):
        assert process.wait(timeout=900) == 0, (root / "tour.log").read_text()[-3000:]
        yield Walked(box, json.loads(summary.read_text()), again=json.loads((root / "again.json").read_text()))


def fire_at(box: Box, process: subprocess.Popen[bytes], chance: random.Random) -> Counter[str]:
    """Kill -9 at random moments until the tour ends.

    A job gets longer pauses than the others: it must at times reach a checkpoint, or the appliance gives it up, as it
    should a job that crashes again and again without progress.
    """
    kills: Counter[str] = Counter()
    next_job = time.monotonic() + chance.uniform(4, 20)
    while process.poll() is None:
        time.sleep(chance.uniform(1, 6))
        # An engine lives only between a deployment and the end: whoever runs and was hit least is next. Then every kind
        # is hit however long the steps of the tour take on this machine.
        victims = ["daemon", "gateway", "engine-"]
        chance.shuffle(victims)
        victims.sort(key=lambda victim: kills[victim])
        hit = next((victim for victim in victims if kills[victim] < 2 * _KILLS and box.kill(victim)), None)
        kills.update([hit] if hit else [])
        if time.monotonic() > next_job and box.kill("job-"):
            kills["job-"] += 1
            next_job = time.monotonic() + chance.uniform(25, 45)
    return kills


@pytest.fixture(scope="module")
def under_fire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    """A tour during which processes are killed at random moments; the seed of the moments is fixed."""
    root = tmp_path_factory.mktemp("fire")
    box, process, summary = walk(root, "--tolerate-faults")
    with stopped_afterwards(box):
        kills = fire_at(box, process, random.Random(20))
        assert process.returncode == 0, (root / "tour.log").read_text()[-3000:]
        yield Walked(box, json.loads(summary.read_text()), kills=kills)


def tuned_weights(box: Box) -> str:
    """Return the digest of the good version's fine-tuned weights."""
    files = box.verb("model", "show", "assistant@1")["files"]
    return next(str(entry["digest"]) for entry in files if entry["path"] == "model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tour_does_every_step(undisturbed: Walked) -> None:
    summary = undisturbed.summary
    assert summary["ok"]
    assert summary["exact_match_after"] >= summary["exact_match_before"] + summary["required_gain"]
    figures = {step["title"]: step["figures"] for step in summary["steps"]}
    damaged = next(value for title, value in figures.items() if title.startswith("A damaged version"))
    assert damaged["streams_broken"] == 0
    assert min(damaged["streams_open_while_switching"]) >= 1
    assert damaged["exact_match_of_the_damaged_version"] < summary["exact_match_before"] + summary["required_gain"]
    parity = next(value for title, value in figures.items() if title.startswith("Convert"))
    assert parity["tokens_equal"] == parity["tokens_total"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_lineage_leads_from_the_served_version_back_to_the_data(undisturbed: Walked) -> None:
    detail = undisturbed.box.verb("model", "show", "assistant@1")
    lineage = detail["lineage"]
    assert lineage["base"]["ref"] == "seed@1"
    assert [item["ref"] for item in lineage["datasets"]] == ["faq@1"]
    assert {run["kind"] for run in lineage["runs"]} == {"train.lora", "convert.gguf"}
    assert all(len(run["run_id"]) == 64 for run in lineage["runs"])
    assert [step["stage"] for step in detail["stages"]] == ["dev", "test", "prod"]
    assert detail["approvals"][0]["approver"] == "second-pair-of-eyes"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_second_tour_builds_nothing_again(undisturbed: Walked) -> None:
    trained = [step["figures"] for step in undisturbed.again["steps"] if "from_cache" in step["figures"]]
    assert len(trained) == 2
    assert all(figures["from_cache"] for figures in trained)
    assert undisturbed.again["seconds"] < min(180, undisturbed.summary["seconds"])
    assert undisturbed.again["answer"] == undisturbed.summary["answer"]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_tour_survives_twenty_kills(undisturbed: Walked, under_fire: Walked) -> None:
    assert under_fire.kills.total() >= _KILLS, under_fire.kills
    assert all(under_fire.kills[victim] for victim in _VICTIMS), under_fire.kills
    assert under_fire.summary["ok"]
    assert under_fire.summary["answer"] == undisturbed.summary["answer"]
    assert tuned_weights(under_fire.box) == tuned_weights(undisturbed.box)
    assert under_fire.box.verb("audit", "verify")["ok"]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_no_acknowledged_change_is_lost_under_fire(under_fire: Walked) -> None:
    box = under_fire.box
    assert {item["ref"] for item in box.verb("model", "list")} == {"seed@1", "assistant@1", "assistant@2"}
    assert box.verb("model", "show", "assistant@1")["model"]["stage"] == "prod"
    assert box.verb("model", "show", "assistant@2")["model"]["stage"] == "dev"
    (deployment,) = box.verb("deployments")
    assert (deployment["model"], deployment["state"]) == ("assistant@1", "live")
    assert [item["name"] for item in box.verb("key", "list")].count("tour") >= 1
    assert box.verb("backup", "list")
    for ref in ("seed@1", "assistant@1", "assistant@2"):
        box.verb("model", "verify", ref)
