"""More models than memory: real engines come and go by use, requests wait for them, and every decision is told."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.factories.box import Box, Refused, running_box, wait_for
from tests.factories.tiny_encoder import make_tiny_bert_gguf

MIB = 1 << 20
BUDGET = 130 * MIB
NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Three small models, and memory for two of them."""
    folder, root = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("box")
    (root / "intramuros.toml").write_text(f"serving_memory = {BUDGET}\nload_timeout = 60\n")
    with running_box(root) as started:
        for number, name in enumerate(NAMES):
            source = make_tiny_bert_gguf(folder / f"{name}.gguf", seed=number)
            started.verb("model", "import", str(source), "--name", name, "--licence", "Apache-2.0")
        started.verb("key", "create", "test", "--out", str(root / "key"))
        yield started


def embed(box: Box, model: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {(box.paths.root / 'key').read_text().strip()}"}
    trusted = ssl.create_default_context(cafile=box.paths.authority_certificate)
    with httpx.Client(base_url=box.url, verify=trusted, headers=headers) as client:
        return client.post("/v1/embeddings", json={"model": model, "input": "my card was stolen"}, timeout=100)


def places(box: Box) -> dict[str, str]:
    return {one["deployment"]: one["state"] for one in box.verb("serving", "show")["models"]}


def decisions(box: Box) -> list[tuple[str, str]]:
    return [(one["action"], one["deployment"]) for one in box.verb("serving", "show")["decisions"]]


def deploy(box: Box, name: str, *more: str) -> None:
    box.verb("deploy", f"{name}@1", "--as", name, "--override", "a test", *more)


def test_a_plan_says_what_a_deployment_would_need_and_changes_nothing(box: Box) -> None:
    plan = box.verb("serving", "plan", "one@1", "--as", "one")
    assert (plan["kind"], plan["budget"], plan["used"]) == ("embed", BUDGET, 0)
    assert 40 * MIB < plan["predicted"]["total"] < 60 * MIB
    assert [one["action"] for one in plan["decisions"]] == ["load"]
    assert places(box) == {}


def test_the_third_model_pushes_out_the_least_recently_used_which_comes_back_when_asked_for(box: Box) -> None:
    deploy(box, "one")
    deploy(box, "two")
    assert embed(box, "one").status_code == 200
    deploy(box, "three")
    assert places(box) == {"one": "resident", "two": "absent", "three": "resident"}
    assert ("unload", "two") in decisions(box)
    answer = embed(box, "two")
    assert answer.status_code == 200, answer.text
    wait_for(lambda: places(box)["two"] == "resident", what="the model that was asked for is in memory")
    assert list(places(box).values()).count("resident") == 2
    why = next(one["why"] for one in box.verb("serving", "show")["decisions"] if one["action"] == "unload")
    assert "frees" in why


def test_requests_for_all_models_at_once_are_all_answered_within_the_budget(box: Box) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda name: embed(box, name), NAMES * 2))
    assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
    view = box.verb("serving", "show")
    assert view["used"] <= view["budget"]


def test_an_engine_is_measured_and_the_prediction_judged(box: Box) -> None:
    def measured() -> list[dict[str, Any]]:
        return [one for one in box.verb("serving", "show")["models"] if one["measured"]]

    for one in wait_for(measured, what="an engine is measured"):
        assert one["error"] == pytest.approx(one["measured"] / one["predicted"]["total"] - 1)
        assert abs(one["error"]) < 0.5, one


def test_pinned_models_stay_and_what_then_never_fits_is_refused_at_once_with_the_reason(box: Box) -> None:
    for name in ("one", "two"):
        embed(box, name)
        box.verb("serving", "pin", name)
    wait_for(lambda: places(box)["three"] == "absent", what="the only one that is not pinned leaves")
    wait_for(lambda: embed(box, "three").json()["error"]["code"] == "model_not_loaded", what="the refusal")
    began = time.monotonic()
    answer = embed(box, "three")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "pinned models hold" in answer.json()["error"]["message"]
    assert time.monotonic() - began < 30
    with pytest.raises(Refused) as refused:
        deploy(box, "three", "--context", "32")
    assert "pinned" in refused.value.message
    for name in ("one", "two"):
        box.verb("serving", "unpin", name)
    wait_for(lambda: embed(box, "three").status_code == 200, what="there is room again", timeout=60)


def test_an_idle_model_leaves_after_its_time(box: Box) -> None:
    embed(box, "one")
    box.verb("serving", "idle", "one", "1s")
    wait_for(lambda: places(box)["one"] == "absent", what="the idle model leaves")
    box.verb("serving", "idle", "one", "0")
    assert embed(box, "one").status_code == 200


def test_a_daemon_that_was_killed_finds_who_is_in_memory(box: Box) -> None:
    before = {name for name, place in places(box).items() if place == "resident"}
    engine = box.pid("engine-")
    daemon = box.daemon_pid()
    assert box.kill("daemon")
    wait_for(lambda: box.daemon_pid() not in (None, daemon), what="the keeper starts the daemon again")
    wait_for(lambda: before <= {n for n, p in places(box).items() if p == "resident"}, what="the engines are adopted")
    assert engine is not None
    os.kill(engine, 0)
    for name in NAMES:
        assert embed(box, name).status_code == 200
