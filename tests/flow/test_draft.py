"""A draft model beside a model: measured, used where it pays, and never seen in an answer."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.engine.frames import Sampling
from tests.factories.box import Box, Refused, running_box
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
ALONE = ("--ubatch", "32")
"""No step is filled up because of what was measured, which would change the order of sums."""
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
    more = (*ALONE, *_named(folder, "small"), f"--adapter=law={digest_of_file(adapter)}={adapter}")
    with (
        running_worker(_model(folder, "deep"), folder / "drafting.sock", *more),
        connected(folder / "drafting.sock") as client,
    ):
        yield client


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[EngineClient]:
    with (
        running_worker(_model(folder, "deep"), folder / "plain.sock", *ALONE),
        connected(folder / "plain.sock") as client,
    ):
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
    assert drafted > (20 if params is LONG else 0)
    assert accepted >= (0.9 * drafted if params is LONG else 0)


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


@pytest.fixture(scope="module")
def box(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    root = tmp_path_factory.mktemp("box")
    with running_box(root) as started:
        for name in ("deep", "small", "able"):
            started.verb("model", "import", str(_model(folder, name)), "--name", name, "--licence", "Apache-2.0")
        started.verb("key", "create", "test", "--out", str(root / "key"))
        yield started


def _complete(box: Box, model: str) -> str:
    headers = {"authorization": f"Bearer {(box.paths.root / 'key').read_text().strip()}"}
    trusted = ssl.create_default_context(cafile=box.paths.authority_certificate)
    prompt = " ".join(PROMPTS[:3])  # longer than a tile: it is not filled up
    asked = {"model": model, "prompt": prompt, "max_tokens": 100, "temperature": 0, "ignore_eos": True}
    with httpx.Client(base_url=box.url, verify=trusted, headers=headers) as client:
        answer = client.post("/v1/completions", json=asked, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] >= 64
    return str(answer.json()["choices"][0]["text"])


def _counted(box: Box, name: str, model: str, source: str) -> float:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(box.paths.gateway_socket))) as client:
        text = client.get("http://gateway/metrics").text
    return next(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and (sample.labels["model"], sample.labels["source"]) == (model, source)
    )


def _served(box: Box, name: str) -> dict[str, Any]:
    view = next(one for one in box.verb("deployments") if one["name"] == name)
    live: dict[str, Any] = next(one for one in view["revisions"] if one["state"] == "live")
    return live


def test_a_deployment_with_a_draft_answers_the_same_and_counts_what_was_guessed(box: Box) -> None:
    plan = box.verb("serving", "plan", "deep@1", "--as", "fast", "--draft", "small@1")
    assert plan["predicted"]["draft"] > 0
    box.verb("deploy", "deep@1", "--as", "plain", "--override", "a test")
    box.verb("deploy", "deep@1", "--as", "fast", "--override", "a test", "--draft", "small@1")
    assert _served(box, "fast")["options"]["draft"]["ref"] == "small@1"
    assert _complete(box, "fast") == _complete(box, "plain")
    drafted, accepted = (
        _counted(box, f"intramuros_engine_{what}_tokens_total", "fast", "draft") for what in ("drafted", "accepted")
    )
    assert 0 < 0.9 * drafted < accepted <= drafted
    assert _counted(box, "intramuros_engine_drafted_tokens_total", "plain", "draft") == 0
    told = next(one for one in box.verb("serving", "show")["models"] if one["deployment"] == "fast")
    assert told["engine"]["draft_model_accepted"] == accepted
    assert told["predicted"]["draft"] == plan["predicted"]["draft"]


def test_a_draft_with_another_vocabulary_fails_and_what_was_live_stays(box: Box) -> None:
    before = _served(box, "fast")
    with pytest.raises(Refused) as refused:
        box.verb("deploy", "deep@1", "--as", "fast", "--override", "a test", "--draft", "able@1")
    assert refused.value.code == "deploy.failed"
    assert "another vocabulary" in refused.value.message
    assert _served(box, "fast") == before
    assert _complete(box, "fast")


def test_the_draft_of_a_deployment_cannot_be_removed_and_no_draft_takes_it_away(box: Box) -> None:
    with pytest.raises(Refused) as refused:
        box.verb("model", "remove", "small@1", "--yes")
    assert refused.value.code == "model.in_use"
    box.verb("deploy", "deep@1", "--as", "fast", "--override", "a test", "--no-draft")
    assert _served(box, "fast")["options"]["draft"] is None
    with pytest.raises(Refused) as both:
        box.verb("deploy", "deep@1", "--as", "fast", "--draft", "small@1", "--no-draft")
    assert both.value.code == "deploy.options"
