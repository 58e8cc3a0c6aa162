"""LoRA adapters on one context: each request gets its own, nothing of one is seen by another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.engine_client import (
    GREEDY,
    EngineClient,
    connected,
    digest_of_file,
    end_worker,
    running_worker,
    start_worker,
)
from tests.factories.tiny_llama import make_tiny_adapter, make_tiny_gguf

PROMPT = "The quick brown fox jumps over the lazy dog while the other dogs sleep in the sun"
LANES = ("", "law", "care")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    make_tiny_gguf(folder)
    for seed, name in enumerate(LANES[1:], start=1):
        make_tiny_adapter(folder / f"{name}.gguf", seed=seed)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[EngineClient]:
    files = {name: folder / f"{name}.gguf" for name in LANES[1:]}
    named = [f"--adapter={name}={digest_of_file(path)}={path}" for name, path in files.items()]
    with (
        running_worker(
            folder / "model.gguf", folder / "engine.sock", "--itl-target", "5", "--idle-cells", "2048", *named
        ),
        connected(folder / "engine.sock") as client,
    ):
        yield client


def test_worker_tells_its_adapters(client: EngineClient) -> None:
    assert client.hello().adapters == LANES[1:]


def test_each_request_gets_the_answer_of_its_own_adapter_whatever_runs_beside_it(client: EngineClient) -> None:
    alone = {lane: client.ask(PROMPT, GREEDY, tenant="alone", adapter=lane).text for lane in LANES}
    assert len(set(alone.values())) == len(LANES)
    numbers = {
        client.submit(PROMPT, GREEDY, tenant=f"tenant {turn}", adapter=lane): lane
        for turn in range(3)
        for lane in LANES
    }
    answers = client.wait(*numbers)
    assert [answer.text for answer in answers] == [alone[lane] for lane in numbers.values()]


def test_a_prefix_computed_under_one_adapter_is_not_used_under_another(client: EngineClient) -> None:
    reused = [
        client.ask(PROMPT, GREEDY, tenant="same", adapter=lane).finished.cached_tokens
        for lane in ("law", "care", "law")
    ]
    assert reused[:2] == [0, 0]
    assert reused[2] > 0


def test_unknown_adapter_is_refused_and_costs_nobody_else(client: EngineClient) -> None:
    wrong = client.ask(PROMPT, GREEDY, adapter="absent").failed
    assert (wrong.code, wrong.retryable) == ("engine.adapter", False)
    assert client.ask(PROMPT, GREEDY).finished.reason == "length"


@pytest.mark.parametrize(("damage", "status", "said"), [("digest", 7, "engine.digest"), ("bytes", 7, "refuses")])
def test_damaged_adapter_stops_the_worker_with_one_line(
    folder: Path, tmp_path: Path, damage: str, status: int, said: str
) -> None:
    adapter = tmp_path / "law.gguf"
    adapter.write_bytes((folder / "law.gguf").read_bytes()[: 200 if damage == "bytes" else None])
    digest = "0" * 64 if damage == "digest" else digest_of_file(adapter)
    process = start_worker(folder / "model.gguf", tmp_path / "s", f"--adapter=law={digest}={adapter}")
    try:
        assert process.wait(timeout=60) == status
        assert process.stderr is not None
        lines = process.stderr.read().decode().splitlines()
        assert len(lines) == 1
        assert said in lines[0]
    finally:
        end_worker(process)
