"""From a table to a served classifier on a real box, by the command line alone; what is served is what was measured."""

from __future__ import annotations

import csv
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.factories.box import Box, Refused, running_box
from tests.factories.labelled_texts import labelled_rows
from tests.factories.tiny_encoder import make_tiny_bert

RECIPE = """\
recipe: classify
base: tiny@1
data: intents@1
with:
  epochs: 2
  batch_size: 16
  learning_rate: 0.003
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("sources")
    for name, rows in (("train", labelled_rows(90)), ("test", labelled_rows(45, start=1000))):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["text", "category"])
            writer.writeheader()
            writer.writerows({"text": row["text"], "category": row["label"]} for row in rows)
    with running_box(tmp_path_factory.mktemp("box")) as started:
        files = [str(folder / f"{name}.csv") for name in ("train", "test")]
        chosen = ("--form", "classification", "--map", "label=category")
        started.verb("dataset", "import", *files, "--name", "intents", *chosen)
        source = make_tiny_bert(folder / "tiny")
        started.verb("model", "import", str(source), "--name", "tiny", "--licence", "Apache-2.0")
        started.verb("key", "create", "test", "--out", str(started.paths.root / "key"))
        yield started


def ask(box: Box, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {(box.paths.root / 'key').read_text().strip()}"}
    trusted = ssl.create_default_context(cafile=box.paths.authority_certificate)
    with httpx.Client(base_url=box.url, verify=trusted, headers=headers) as client:
        return client.post("/v1/classify", json={"model": "intents", **body}, timeout=60)


def test_a_table_becomes_a_served_classifier(box: Box, tmp_path: Path) -> None:
    recipe = tmp_path / "intents.yaml"
    recipe.write_text(RECIPE)
    plan = box.verb("train", "plan", str(recipe))
    assert plan["memory"]["fits"]
    job = box.verb("train", "run", str(recipe))
    assert job["summary"]["verdict"] in ("gain", "no gain", "loss")
    accuracy = job["summary"]["metrics"]["accuracy"]
    version = box.verb("model", "register", f"run:{job['id']}", "--name", "intents")
    assert not [entry["path"] for entry in version["files"] if entry["path"].startswith("report/")]
    box.verb("model", "promote", "intents@1", "--to", "dev")
    with pytest.raises(Refused) as refused:
        box.verb("model", "promote", "intents@1", "--to", "test")
    assert refused.value.code == "gate.refused"
    assert "not measured" in refused.value.message
    measured = box.verb("eval", "intents@1", "--data", "intents@1")
    assert measured["summary"]["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert box.verb("model", "promote", "intents@1", "--to", "test")["model"]["stage"] == "test"
    box.verb("deploy", "intents@1", "--as", "intents", "--override", "a test has no second person")
    report = box.verb("job", "output", job["id"], "report/predictions.jsonl")
    predicted = [json.loads(line) for line in report["text"].splitlines()]
    answer = ask(box, input=[line["text"] for line in predicted]).json()
    assert answer["labels"] == ["card", "network", "place"]
    for line, served in zip(predicted, answer["data"], strict=True):
        assert served["label"] == line["got"]
        assert max(served["probs"]) == pytest.approx(line["score"], abs=2e-6)
    assert sum(line["correct"] for line in predicted) / len(predicted) == pytest.approx(accuracy)


def test_a_text_longer_than_those_it_was_measured_on_is_refused_or_cut(box: Box) -> None:
    assert ask(box, input="card " * 200).status_code == 400
    assert ask(box, input="card " * 200, truncate=True).status_code == 200


def test_a_base_that_generates_is_refused_before_a_job_exists(box: Box, tmp_path: Path) -> None:
    from tests.factories.tiny_llama import make_tiny_llama

    box.verb("model", "import", str(make_tiny_llama(tmp_path / "llama")), "--name", "writer", "--licence", "MIT")
    before = len(box.verb("job", "list"))
    with pytest.raises(Refused) as refused:
        box.verb("train", "classify", "--base", "writer@1", "--data", "intents@1")
    assert refused.value.code == "model.no_encoder"
    assert len(box.verb("job", "list")) == before


def test_a_student_of_the_classifier_is_registered_and_asked(box: Box) -> None:
    data = ("--data", "intents@1", "--set", "epochs=2")
    job = box.verb("train", "distil", "--teacher", "intents@1", *data, "--set", "keep_layers=[0]")
    assert job["summary"]["parameters"] < job["summary"]["teacher_parameters"]
    student = box.verb("model", "register", f"run:{job['id']}", "--name", "student")
    assert student["lineage"]["teacher"]["ref"] == "intents@1"
    box.verb("deploy", "student@1", "--as", "intents", "--override", "a test")
    assert ask(box, input="my card").json()["data"][0]["label"] in ("card", "network", "place")
