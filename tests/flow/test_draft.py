"""A draft model beside a model: measured, used where it pays, and never seen in an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine.frames import Sampling
from tests.factories.engine_client import (
    EngineClient,
    connected,
    digest_of_file,
    end_worker,
    running_worker,
    same_until_a_tie,
    start_worker,
)
from tests.factories.tiny_llama import make_tiny_adapter, make_tiny_gguf

PROMPTS = [f"Which port does the gateway listen on, and how many dogs sleep there? Number {n}." for n in range(4)]
LONG = Sampling(temperature=0.0, max_tokens=120, ignore_eos=True)
SAMPLED = Sampling(temperature=1.0, seed=3, max_tokens=120, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deep model, and its first layers, which say the same in a fraction of the time."""
    folder = tmp_path_factory.mktemp("draft")
    make_tiny_gguf(folder / "deep", layers=40)
    make_tiny_gguf(folder / "small")
    make_tiny_gguf(folder / "able", able=True)
    make_tiny_adapter(folder / "law.gguf")
    return folder


def _model(folder: Path, name: str) -> Path:
    return folder / name / "model.gguf"


def _named(folder: Path, name: str) -> tuple[str, str]:
    path = _model(folder, name)
    return f"--draft={path}", f"--draft-digest={digest_of_file(path)}"


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[EngineClient]:
    adapter = folder / "law.gguf"
    more = (*_named(folder, "small"), f"--adapter=law={digest_of_file(adapter)}={adapter}")
    with (
        running_worker(_model(folder, "deep"), folder / "drafting.sock", *more),
        connected(folder / "drafting.sock") as client,
    ):
        yield client


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[EngineClient]:
    with running_worker(_model(folder, "deep"), folder / "plain.sock"), connected(folder / "plain.sock") as client:
        yield client


def test_the_worker_tells_its_draft_model(client: EngineClient, folder: Path) -> None:
    assert client.hello().draft == digest_of_file(_model(folder, "small"))


@pytest.mark.parametrize("params", [LONG, SAMPLED], ids=["greedy", "sampled"])
def test_measured_times_let_it_guess_and_the_answers_are_the_same(
    client: EngineClient, plain: EngineClient, params: Sampling
) -> None:
    before = client.state()
    for prompt in PROMPTS[:2]:
        assert client.ask(prompt, params).text == plain.ask(prompt, params).text
    state = client.state()
    drafted = state.draft_model_drafted - before.draft_model_drafted
    accepted = state.draft_model_accepted - before.draft_model_accepted
    assert drafted > 20
    assert accepted > (0.9 * drafted if params is LONG else 0)


def test_streams_beside_each_other_and_beside_an_adapter(client: EngineClient, plain: EngineClient) -> None:
    told = Sampling(temperature=0.0, max_tokens=120, ignore_eos=True, logprobs=2)
    alone = [plain.ask(prompt, told) for prompt in PROMPTS]
    numbers = [client.submit(prompt, told) for prompt in PROMPTS]
    other = client.submit(PROMPTS[0], told, adapter="law")
    answers = client.wait(*numbers)
    shared = sum(same_until_a_tie(one, other) for one, other in zip(alone, answers, strict=True))
    assert shared > 0.7 * 4 * 120
    client.cancel(client.submit(PROMPTS[1], told))
    assert client.wait(other)[0].text != alone[0].text
    before = client.state().draft_model_drafted
    client.ask(PROMPTS[2], LONG, adapter="law")
    assert client.state().draft_model_drafted == before


@pytest.mark.parametrize(
    ("draft", "damage", "code"),
    [
        ("able", "", "engine.draft_vocabulary"),
        ("small", "digest", "engine.digest"),
        ("small", "bytes", "engine.model_refused"),
    ],
)
def test_a_draft_that_does_not_fit_stops_the_worker_with_one_line(
    folder: Path, tmp_path: Path, draft: str, damage: str, code: str
) -> None:
    file = tmp_path / "draft.gguf"
    file.write_bytes(_model(folder, draft).read_bytes()[: 300 if damage == "bytes" else None])
    digest = "0" * 64 if damage == "digest" else digest_of_file(file)
    process = start_worker(_model(folder, "small"), tmp_path / "s", f"--draft={file}", f"--draft-digest={digest}")
    try:
        assert process.wait(timeout=60) == 7
        assert process.stderr is not None
        lines = process.stderr.read().decode().splitlines()
        assert len(lines) == 1
        assert code in lines[0]
        assert not (tmp_path / "s").exists()
    finally:
        end_worker(process)
