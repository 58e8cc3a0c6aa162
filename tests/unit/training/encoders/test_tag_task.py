"""The tagging job on a tiny encoder: it learns a word, repeats, resumes, writes what stock transformers loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForTokenClassification

from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted
from appliance.kernel.errors import BadInput
from appliance.training.encoders import tag_task
from tests.factories.labelled_texts import KINDS, labelled_rows, write_dataset
from tests.factories.stoppable_job import digests, run_task
from tests.factories.tiny_encoder import make_tiny_bert

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

QUICK: dict[str, Any] = {"batch_size": 8, "epochs": 10, "learning_rate": 0.01}


def tagged_rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Rows whose deciding word is a span."""
    rows = []
    for row in labelled_rows(count, start=start):
        word = next(word for word in KINDS if word in row["text"].split())
        at = f" {row['text']} ".index(f" {word} ")
        rows.append({"text": row["text"], "spans": [{"start": at, "end": at + len(word), "label": row["label"]}]})
    return rows


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "base": make_tiny_bert(folder / "base"),
        "dataset": write_dataset(folder / "data", tagged_rows(60), tagged_rows(30, start=500)),
    }


def test_it_learns_resumes_and_is_a_plain_token_classifier(tmp_path: Path, inputs: dict[str, Path]) -> None:
    summary, _job = run_task(tag_task.run, tmp_path / "whole", JobKind.TRAIN_TAG, inputs, QUICK)
    assert summary["metrics"]["f1"] > 0.9
    assert summary["labels"] == ["card", "network", "place"]
    report = json.loads((tmp_path / "whole/out/report/report.json").read_text())
    assert report["f1"] == summary["metrics"]["f1"]
    with pytest.raises(Interrupted):
        run_task(tag_task.run, tmp_path / "parts", JobKind.TRAIN_TAG, inputs, QUICK, stop=("train", 4))
    run_task(tag_task.run, tmp_path / "parts", JobKind.TRAIN_TAG, inputs, QUICK)
    assert digests(tmp_path / "parts/out") == digests(tmp_path / "whole/out")
    model, loading = AutoModelForTokenClassification.from_pretrained(tmp_path / "whole/out", output_loading_info=True)
    assert not any(loading[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.id2label[1] == "B-card"


def test_training_ends_early_with_the_best_weights_and_resumes_to_the_same(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    early = QUICK | {"epochs": 60, "evaluate_every": 5, "patience": 2, "schedule": "constant"}
    summary, _job = run_task(tag_task.run, tmp_path / "whole", JobKind.TRAIN_TAG, inputs, early)
    assert 0 < summary["best_step"] < summary["steps"] < 60 * 7
    assert summary["steps"] - summary["best_step"] == 10
    with pytest.raises(Interrupted):
        run_task(tag_task.run, tmp_path / "parts", JobKind.TRAIN_TAG, inputs, early, stop=("train", 8))
    again, _job = run_task(tag_task.run, tmp_path / "parts", JobKind.TRAIN_TAG, inputs, early)
    assert again["best_validation_loss"] == summary["best_validation_loss"]
    assert digests(tmp_path / "parts/out") == digests(tmp_path / "whole/out")


def test_named_labels_alone_are_learned(tmp_path: Path, inputs: dict[str, Path]) -> None:
    chosen = QUICK | {"labels": ["card"], "epochs": 1}
    summary, _job = run_task(tag_task.run, tmp_path, JobKind.TRAIN_TAG, inputs, chosen)
    assert summary["labels"] == ["card"]
    assert json.loads((tmp_path / "out/report/report.json").read_text())["spans"] == 10


@pytest.mark.parametrize(
    ("training", "heldout", "parameters", "code"),
    [
        ([], tagged_rows(2), {}, "training.dataset_empty"),
        (tagged_rows(2), [], {}, "training.no_heldout"),
        ([{"text": "card", "spans": []}], tagged_rows(2), {}, "training.no_spans"),
        (tagged_rows(2), tagged_rows(2), {"labels": ["NAME"]}, "training.no_spans"),
        ([{"text": "card", "label": "x"}], tagged_rows(2), {}, "training.not_tagged"),
        ([{"text": "card", "spans": [{"start": 2, "end": 9, "label": "x"}]}], [], {}, "training.row_invalid"),
        ([{"text": "card", "spans": [{"start": 3, "end": 1, "label": "x"}]}], [], {}, "training.row_invalid"),
    ],
)
def test_data_that_cannot_be_learned_is_refused(
    tmp_path: Path, inputs: dict[str, Path], training: Any, heldout: Any, parameters: dict[str, Any], code: str
) -> None:
    data = {"base": inputs["base"], "dataset": write_dataset(tmp_path / "d", training, heldout)}
    with pytest.raises(BadInput) as refused:
        run_task(tag_task.run, tmp_path / "job", JobKind.TRAIN_TAG, data, QUICK | parameters)
    assert refused.value.code == code
