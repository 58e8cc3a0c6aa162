"""Deployments of every kind on a real box: deploy, ask at the right address, be told at the wrong one."""

from __future__ import annotations

import base64
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.factories.box import Box, Refused, running_box
from tests.factories.tiny_encoder import HIDDEN, make_tiny_bert, make_tiny_bert_gguf

LABELS = ("fine", "insult", "threat")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("models")
    sources = {
        "embedder": make_tiny_bert_gguf(folder / "embedder.gguf"),
        "ranker": make_tiny_bert_gguf(folder / "ranker.gguf", labels=("relevance",)),
        "moderator": make_tiny_bert(folder / "moderator", labels=LABELS),
    }
    with running_box(tmp_path_factory.mktemp("box")) as started:
        for name, source in sources.items():
            started.verb("model", "import", str(source), "--name", name, "--licence", "Apache-2.0")
        started.verb("deploy", "embedder@1", "--as", "embedder", "--override", "a test")
        started.verb("deploy", "ranker@1", "--as", "ranker", "--override", "a test", "--threads", "1")
        started.verb("deploy", "moderator@1", "--as", "moderator", "--override", "a test", *_CATEGORIES)
        started.verb("key", "create", "test", "--out", str(started.paths.root / "key"))
        yield started


_CATEGORIES = ("--category", "insult=harassment", "--category", "threat=violence")


def post(box: Box, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {(box.paths.root / 'key').read_text().strip()}"}
    trusted = ssl.create_default_context(cafile=box.paths.authority_certificate)
    with httpx.Client(base_url=box.url, verify=trusted, headers=headers) as client:
        return client.post(path, json=body, timeout=60)


def test_kinds_are_read_off_the_models(box: Box) -> None:
    kinds = {view["name"]: view["revisions"][0]["options"]["kind"] for view in box.verb("deployments")}
    assert kinds == {"embedder": "embed", "ranker": "rerank", "moderator": "classify"}


def test_embeddings_in_both_formats_count_tokens(box: Box) -> None:
    texts = ["my card was stolen", "a dog sleeps on the beach"]
    plain = post(box, "/v1/embeddings", model="embedder", input=texts).json()
    packed = post(box, "/v1/embeddings", model="embedder", input=texts, encoding_format="base64").json()
    vectors = [entry["embedding"] for entry in plain["data"]]
    unpacked = [struct.unpack(f"<{HIDDEN}f", base64.b64decode(entry["embedding"])) for entry in packed["data"]]
    assert [list(vector) for vector in unpacked] == [pytest.approx(vector, abs=1e-3) for vector in vectors]
    assert all(sum(number * number for number in vector) == pytest.approx(1, abs=1e-5) for vector in vectors)
    assert plain["usage"]["prompt_tokens"] == plain["usage"]["total_tokens"] > 10
    lines = [line for line in (box.paths.logs / "access.jsonl").read_text().splitlines() if "/v1/embeddings" in line]
    assert f'"prompt_tokens":{plain["usage"]["prompt_tokens"]}' in lines[0]


def test_what_a_model_cannot_give_is_refused_by_name(box: Box) -> None:
    too_many = post(box, "/v1/embeddings", model="embedder", input="card", dimensions=HIDDEN + 1)
    shorter = post(box, "/v1/embeddings", model="embedder", input="card", dimensions=8)
    long = post(box, "/v1/embeddings", model="embedder", input="card " * 200)
    cut = post(box, "/v1/embeddings", model="embedder", input="card " * 200, truncate=True)
    assert [answer.status_code for answer in (too_many, shorter, long, cut)] == [400, 400, 400, 200]
    assert [answer.json()["error"]["param"] for answer in (too_many, shorter)] == ["dimensions", "dimensions"]
    assert long.json()["error"]["code"] == "context_length_exceeded"


def test_a_wrong_address_is_told_with_the_right_one(box: Box) -> None:
    chat = post(box, "/v1/chat/completions", model="embedder", messages=[{"role": "user", "content": "Hello"}])
    ranking = post(box, "/v1/rerank", model="moderator", query="a", documents=["b"])
    for answer, right in ((chat, "/v1/embeddings"), (ranking, "/v1/classify")):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "wrong_endpoint", "model")
        assert right in error["message"]


def test_reranking_orders_documents(box: Box) -> None:
    documents = ["a dog sleeps", "my card was stolen", "money transfer", "where is the beach"]
    answer = post(
        box, "/v1/rerank", model="ranker", query="is my card lost", documents=documents, return_documents=True
    )
    results = answer.json()["results"]
    assert [entry["document"]["text"] for entry in results] == [documents[entry["index"]] for entry in results]
    scores = [entry["relevance_score"] for entry in results]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
    top = post(box, "/v1/rerank", model="ranker", query="is my card lost", documents=documents, top_n=1).json()
    assert [entry["index"] for entry in top["results"]] == [results[0]["index"]]


def test_classification_and_moderation_agree(box: Box) -> None:
    texts = ["my card was stolen", "a dog sleeps", "where is the beach", "red blue summer"]
    classes = post(box, "/v1/classify", model="moderator", input=texts).json()
    assert classes["labels"] == list(LABELS)
    moderated = post(box, "/v1/moderations", input=texts).json()
    for entry, verdict in zip(classes["data"], moderated["results"], strict=True):
        assert entry["label"] == LABELS[entry["probs"].index(max(entry["probs"]))]
        assert verdict["category_scores"] == pytest.approx(
            {"harassment": entry["probs"][1], "violence": entry["probs"][2]}, abs=1e-5
        )
        assert verdict["flagged"] == any(score >= 0.5 for score in verdict["category_scores"].values())


def test_deploying_as_what_the_model_is_not_is_refused(box: Box) -> None:
    for model, kind in (("embedder@1", "generate"), ("moderator@1", "embed"), ("embedder@1", "paint")):
        with pytest.raises(Refused) as refused:
            box.verb("deploy", model, "--as", "x", "--override", "a test", "--kind", kind)
        assert (refused.value.code, refused.value.status) == ("deploy.kind", 2)
    with pytest.raises(Refused) as refused:
        box.verb("deploy", "moderator@1", "--as", "x", "--override", "a test", "--category", "rude=harassment")
    assert refused.value.code == "deploy.options"
    assert "'rude'" in refused.value.message


def test_a_prompt_to_an_encoder_is_refused(box: Box) -> None:
    with pytest.raises(Refused) as refused:
        box.verb("ask", "embedder", "Hello")
    assert refused.value.code == "deployment.kind"


@pytest.mark.parametrize("name", ["embedder", "moderator"])
def test_a_killed_encoder_comes_back_and_says_the_same(box: Box, name: str) -> None:
    path = {"embedder": "/v1/embeddings", "moderator": "/v1/classify"}[name]
    (deployment,) = (view for view in box.verb("deployments") if view["name"] == name)
    before = post(box, path, model=name, input="my card was stolen").json()
    assert box.kill(f"engine-{deployment['revisions'][0]['number']}")
    deadline = time.monotonic() + 30
    while (answer := post(box, path, model=name, input="my card was stolen")).status_code != 200:
        assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert answer.json()["data"] == before["data"]
