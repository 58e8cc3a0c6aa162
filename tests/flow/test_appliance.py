"""The embedded appliance as a user meets it: real daemon, gateway, engine and jobs, driven by verbs."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.processes import free_port
from tests.factories.box import Box, Refused, run_verb, running_box, wait_for
from tests.factories.tiny_llama import make_tiny_gguf, make_tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model: folder `hf/` and file `model.gguf`."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_llama(folder / "hf")
    (folder / "gguf").mkdir()
    return Path(make_tiny_gguf(folder / "gguf")).rename(folder / "model.gguf").parent


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Box]:
    """A running appliance with the tiny model imported and served as `tiny`."""
    with running_box(tmp_path_factory.mktemp("box")) as started:
        started.verb("model", "import", str(tiny / "model.gguf"), "--name", "tiny", "--licence", "Apache-2.0")
        started.verb("deploy", "tiny@1", "--as", "tiny", "--override", "a test")
        started.verb("key", "create", "test", "--out", str(started.paths.root / "key"))
        yield started


def ask(box: Box, question: str = "Hello") -> dict[str, Any]:
    """Ask the gateway as an end user."""
    return box.ask_as_client(question, model="tiny", max_tokens=8)


def test_an_imported_model_is_described_verified_and_served(box: Box) -> None:
    detail = box.verb("model", "show", "tiny")
    assert detail["model"]["formats"] == ["gguf"]
    assert detail["model"]["parameters"] > 0
    assert detail["used_by"] == ["deployment tiny"]
    box.verb("model", "verify", "tiny@1")
    assert ask(box)["ok"]


def test_importing_the_same_bytes_again_makes_no_new_version(box: Box, tiny: Path) -> None:
    again = box.verb("model", "import", str(tiny / "model.gguf"), "--name", "tiny")
    assert again["model"]["ref"] == "tiny@1"


def test_a_model_in_use_cannot_be_removed(box: Box) -> None:
    with pytest.raises(Refused) as refused:
        box.verb("model", "remove", "tiny@1", "--yes")
    assert refused.value.code == "model.in_use"
    assert "deployment tiny" in refused.value.message


def test_a_removed_model_frees_its_bytes(box: Box, tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "other", seed=7)
    view = box.verb("model", "import", str(tmp_path / "other"), "--name", "other")
    digests = [entry["digest"] for entry in view["files"]]
    assert all(box.paths.blob(digest).exists() for digest in digests)
    box.verb("model", "remove", "other@1", "--yes")
    weights = next(entry["digest"] for entry in view["files"] if entry["path"].endswith(".safetensors"))
    assert not box.paths.blob(weights).exists()
    with pytest.raises(Refused) as refused:
        box.verb("model", "show", "other@1")
    assert (refused.value.code, refused.value.status) == ("model.unknown", 3)


def test_the_gateway_goes_on_while_the_daemon_is_dead_and_the_engine_is_adopted(box: Box) -> None:
    engine, gateway, daemon = box.pid("engine-"), box.pid("gateway"), box.daemon_pid()
    assert box.kill("daemon")
    assert ask(box)["ok"]
    wait_for(lambda: box.daemon_pid() not in (None, daemon), what="the keeper starts the daemon again")
    box.verb("status")
    assert (box.pid("engine-"), box.pid("gateway")) == (engine, gateway)


def test_a_killed_engine_comes_back_and_answers_the_same(box: Box) -> None:
    before = ask(box)["text"]
    engine = box.pid("engine-")
    assert box.kill("engine-")
    wait_for(lambda: box.pid("engine-") not in (None, engine), what="the engine is started again")
    assert ask(box)["text"] == before


def test_while_an_engine_dies_again_and_again_every_request_ends_soon_and_may_be_sent_again(box: Box) -> None:
    ends: list[tuple[int, bool, float]] = []
    stop = threading.Event()

    def keep_asking() -> None:
        key = (box.paths.root / "key").read_text().strip()
        trust = ssl.create_default_context(cafile=box.paths.authority_certificate)
        body = {"model": "tiny", "prompt": "Hello", "max_tokens": 64, "ignore_eos": True}
        with httpx.Client(verify=trust, headers={"authorization": f"Bearer {key}"}, timeout=30) as http:
            while not stop.is_set():
                began = time.monotonic()
                answer = http.post(f"{box.url}/v1/completions", json=body)
                ends.append((answer.status_code, "retry-after" in answer.headers, time.monotonic() - began))
                if answer.is_error:
                    stop.wait(0.1)

    dead: set[int | None] = {None}
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(keep_asking) for _ in range(4)]
        try:
            for _ in range(5):  # the last pauses are seconds
                wait_for(lambda: box.pid("engine-") not in dead, what="the engine is started again")
                dead.add(box.pid("engine-"))
                assert box.kill("engine-")
            wait_for(lambda: box.pid("engine-") not in dead, what="the engine is started again")
            assert ask(box)["ok"]
        finally:
            stop.set()
        for client in clients:
            client.result()
    assert {status for status, _, _ in ends} == {200, 503}
    assert all(again for status, again, _ in ends if status == 503)
    assert max(seconds for _, _, seconds in ends) < 5
    (unit,) = (unit for unit in box.verb("status")["units"] if unit["name"].startswith("engine-"))
    assert unit["restarts"] >= 5


def test_a_killed_gateway_comes_back(box: Box) -> None:
    assert box.kill("gateway")
    assert ask(box)["ok"]


def test_a_revoked_key_is_refused_within_seconds(box: Box) -> None:
    box.verb("key", "create", "short-lived", "--out", str(box.paths.root / "key2"))
    mine = next(item["id"] for item in box.verb("key", "list") if item["name"] == "short-lived")
    box.verb("key", "revoke", mine)
    secret = (box.paths.root / "key2").read_text()
    assert secret.strip() not in json.dumps(box.verb("key", "list"))
    (box.paths.root / "key").rename(box.paths.root / "good")
    (box.paths.root / "key2").rename(box.paths.root / "key")
    try:
        wait_for(lambda: "401" in str(ask(box).get("problem")), what="the revoked key is refused")
    finally:
        (box.paths.root / "good").rename(box.paths.root / "key")


def test_many_clients_at_once_are_normal(box: Box) -> None:
    verbs = [("status",), ("model", "list"), ("job", "list"), ("audit", "list"), ("deployments",), ("key", "list")]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda arguments: box.verb(*arguments), verbs * 2))
    assert len(answers) == 12


def test_rolling_back_needs_something_to_return_to(box: Box) -> None:
    with pytest.raises(Refused) as refused:
        box.verb("rollback", "tiny")
    assert (refused.value.code, refused.value.status) == ("rollback.nothing_before", 4)


def test_a_version_without_gguf_is_not_deployed(box: Box, tiny: Path) -> None:
    box.verb("model", "import", str(tiny / "hf"), "--name", "folder")
    with pytest.raises(Refused) as refused:
        box.verb("deploy", "folder@1", "--as", "folder", "--override", "a test")
    assert refused.value.code == "deploy.no_gguf"


def test_everything_is_in_the_audit_trail_and_it_verifies_without_the_product(box: Box, tmp_path: Path) -> None:
    assert box.verb("audit", "verify")["ok"]
    exported = box.verb("audit", "export", str(tmp_path / "trail.jsonl"))
    argv = [sys.executable, "-I", exported["verifier"], str(tmp_path / "trail.jsonl"), "--json"]
    verified = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr
    actions = {json.loads(line).get("action") for line in (tmp_path / "trail.jsonl").read_text().splitlines()}
    assert {"model.register", "deployment.deploy", "key.create", "key.revoke", "job.submit"} <= actions


def test_a_row_changed_behind_the_products_back_is_found(box: Box, tmp_path: Path) -> None:
    box.verb("audit", "verify")
    trail = tmp_path / "copy.sqlite3"
    with sqlite3.connect(box.paths.database) as live, sqlite3.connect(trail) as copy:
        live.backup(copy)
    for connection in (live, copy):
        connection.close()
    exported = box.verb("audit", "export", str(tmp_path / "trail.jsonl"))
    text = (tmp_path / "trail.jsonl").read_text().replace('"action":"model.register"', '"action":"model.regis7er"', 1)
    (tmp_path / "forged.jsonl").write_text(text)
    argv = [sys.executable, "-I", exported["verifier"], str(tmp_path / "forged.jsonl")]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 1


def test_a_bad_file_is_refused_with_one_line_and_leaves_nothing(box: Box, tmp_path: Path) -> None:
    lying = tmp_path / "zeros.gguf"
    with lying.open("wb") as stream:
        stream.truncate(10 * 1000**3)
    blobs = sum(1 for _ in box.paths.blobs.rglob("*") if _.is_file())
    finished = run_verb("model", "import", str(lying), "--name", "zeros", state=box.paths.root)
    problem = json.loads(finished.stderr.splitlines()[-1])
    assert problem["code"] == "model.not_a_model"
    assert finished.returncode == problem["exit_code"]
    assert sum(1 for _ in box.paths.blobs.rglob("*") if _.is_file()) == blobs
    assert "zeros" not in {item["name"] for item in box.verb("model", "list")}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("model", "show", "nobody"), "model.unknown"),
        (("model", "show", "Bad Name"), "name.invalid"),
        (("dataset", "import", "missing.csv", "--name", "x"), "source.missing"),
        (("dataset", "import", "example:nothing", "--name", "x"), "dataset.no_example"),
        (("job", "show", "ZZZ"), "job.unknown"),
        (("eval", "tiny@1", "--data", "nothing"), "model.no_weights"),
        (("rollback", "nothing"), "deployment.unknown"),
        (("key", "revoke", "nothing"), "key.unknown"),
        (("model", "promote", "tiny@1", "--to", "prod"), "stage.order"),
        (("train", "lora", "--base", "run:ZZZ", "--data", "x"), "job.unknown"),
        (("key", "create", "x", "--days", "-1"), "key.days"),
    ],
)
def test_bad_input_gets_one_line_with_a_stable_code(box: Box, arguments: tuple[str, ...], code: str) -> None:
    with pytest.raises(Refused) as refused:
        box.verb(*arguments)
    assert refused.value.code == code


def test_a_cancelled_job_can_be_resumed(box: Box) -> None:
    box.verb("dataset", "import", "example:handbook", "--name", "handbook")
    small = ("--set", "layers=1", "--set", "hidden_size=32", "--set", "intermediate_size=64", "--set", "steps=200")
    queued = box.verb("train", "seed", "--corpus", "handbook", *small, "--set", "checkpoint_seconds=0", "--detach")
    wait_for(
        lambda: any(line["event"]["type"] == "checkpoint" for line in box.verb("job", "log", queued["id"])["events"]),
        what="the first checkpoint",
        timeout=120,
    )
    box.verb("job", "cancel", queued["id"])
    wait_for(lambda: box.verb("job", "show", queued["id"])["job"]["state"] == "cancelled", what="cancelled")
    resumed = box.verb("job", "resume", queued["id"])
    assert resumed["state"] == "succeeded"
    again = box.verb("train", "seed", "--corpus", "handbook", *small, "--set", "checkpoint_seconds=0")
    assert again["cached"]
    assert again["id"] == queued["id"]


def test_up_again_changes_nothing_and_another_port_is_refused(box: Box) -> None:
    gateway = box.pid("gateway")
    box.up()
    assert box.pid("gateway") == gateway
    with pytest.raises(Refused) as refused:
        box.verb("up", "--port", str(free_port()))
    assert refused.value.code == "up.other_address"


def test_a_second_daemon_on_one_state_is_refused(box: Box) -> None:
    argv = [sys.executable, "-I", "-m", "appliance.daemon.main", "--state", str(box.paths.root)]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 4
    assert "state.in_use" in second.stderr
    assert box.verb("status")["units"]


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        finished = run_verb("up", "--port", str(taken.getsockname()[1]), state=tmp_path / "state")
    assert finished.returncode == 4
    assert json.loads(finished.stderr.splitlines()[-1])["code"] == "gateway.port_taken"


def test_a_state_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    with running_box(tmp_path) as box:
        database = box.paths.database
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = database.read_bytes()
    finished = run_verb("up", "--port", str(free_port()), state=tmp_path)
    assert finished.returncode == 4
    assert json.loads(finished.stderr.splitlines()[-1])["code"] == "store.newer"
    assert database.read_bytes() == before


def test_an_unknown_setting_is_refused_with_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "intramuros.toml").write_text("colour = 'blue'\n")
    finished = run_verb("up", "--port", str(free_port()), state=tmp_path)
    problem = json.loads(finished.stderr.splitlines()[-1])
    assert problem["code"] == "settings.invalid"
    assert "intramuros.toml" in problem["message"]


def test_no_answer_is_one_clear_line(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-I", "-m", "appliance.cli.main", "status", "--state", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "INTRAMUROS_PATIENCE": "0"},
    )
    assert finished.returncode == 6
    assert "api.not_running" in finished.stderr
    assert "intramuros up" in finished.stderr


def test_down_stops_what_a_killed_daemon_and_keeper_left(tmp_path: Path) -> None:
    with running_box(tmp_path) as box:
        for pid in (box.keeper_pid(), box.daemon_pid()):
            assert pid is not None
            os.kill(pid, 9)
        wait_for(lambda: box.daemon_pid() is None, what="the daemon is gone")
        assert box.pid("gateway") is not None
        box.down()
        assert box.pid("gateway") is None
        box.up()
