"""Pruning and distilling as jobs: they shrink, teach, repeat, resume, and refuse what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted
from appliance.kernel.errors import BadInput
from appliance.training.encoders import classify_task
from appliance.training.shrink import distil_task, prune_task
from appliance.weights.encoder import load_classifier
from appliance.weights.loading import load_model
from tests.factories.labelled_texts import labelled_rows, write_dataset
from tests.factories.stoppable_job import digests, run_task
from tests.factories.tiny_encoder import make_tiny_bert
from tests.factories.tiny_llama import make_tiny_llama

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

DISTIL: dict[str, Any] = {"batch_size": 8, "epochs": 2, "learning_rate": 0.003, "checkpoint_seconds": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), labelled_rows(60), labelled_rows(30, start=1000))


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"number {n}?"}, {"role": "assistant", "content": f"{n % 3} it is"}]}
        for n in range(18)
    ]
    return write_dataset(tmp_path_factory.mktemp("chats"), rows[:12], rows[12:])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    base = make_tiny_bert(folder / "base")
    inputs = {"base": base, "dataset": data}
    run_task(classify_task.run, folder / "job", JobKind.TRAIN_CLASSIFY, inputs, {"method": "baseline"})
    return folder / "job" / "out"


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("writer"), able=True)


def test_a_pruned_classifier_is_smaller_and_measured(tmp_path: Path, classifier: Path, data: Path) -> None:
    inputs = {"base": classifier, "dataset": data}
    parameters = {"keep_layers": [0], "drop_channels": 0.5}
    summary, _job = run_task(prune_task.run, tmp_path / "a", JobKind.TRAIN_PRUNE, inputs, parameters)
    assert summary["bytes_after"] < summary["bytes_before"]
    assert summary["parameters"] < summary["parameters_before"]
    assert (summary["kept_layers"], summary["kept_channels"]) == ([0], 32)
    assert {"accuracy", "macro_f1", "accuracy_before"} <= set(summary["metrics"])
    smaller, _loaded, config = load_classifier(tmp_path / "a/out")
    assert config.labels == ("card", "network", "place")
    assert sum(weight.numel() for weight in smaller.parameters()) == summary["parameters"]
    run_task(prune_task.run, tmp_path / "b", JobKind.TRAIN_PRUNE, inputs, parameters)
    assert digests(tmp_path / "b/out") == digests(tmp_path / "a/out")


def test_a_plain_encoder_says_how_like_the_whole_it_is(tmp_path: Path, data: Path) -> None:
    inputs = {"base": make_tiny_bert(tmp_path / "base"), "dataset": data}
    summary, _job = run_task(prune_task.run, tmp_path / "job", JobKind.TRAIN_PRUNE, inputs, {"drop_channels": 0.5})
    assert summary["metrics"]["cosine_to_whole_before"] == pytest.approx(1)
    assert 0 < summary["metrics"]["cosine_to_whole"] < 0.9999


def test_a_pruned_writer_stops_resumes_and_is_measured(tmp_path: Path, writer: Path, chats: Path) -> None:
    inputs = {"base": writer, "dataset": chats}
    parameters = {"drop_layers": 1, "drop_groups": 1, "importance": 6}
    with pytest.raises(Interrupted):
        run_task(prune_task.run, tmp_path, JobKind.TRAIN_PRUNE, inputs, parameters, stop=("importance", 2))
    summary, _job = run_task(prune_task.run, tmp_path, JobKind.TRAIN_PRUNE, inputs, parameters)
    assert summary["kept_groups"] == 1
    assert summary["metrics"]["perplexity"] > 1
    assert load_model(tmp_path / "out").model.num_parameters() < summary["parameters_before"]


def test_a_classifier_teaches_a_student_of_half_its_layers(tmp_path: Path, classifier: Path, data: Path) -> None:
    inputs = {"teacher": classifier, "dataset": data}
    summary, _job = run_task(distil_task.run, tmp_path / "whole", JobKind.TRAIN_DISTIL, inputs, DISTIL)
    assert summary["metrics"]["accuracy"] > summary["metrics"]["untaught_accuracy"]
    assert summary["parameters"] < summary["teacher_parameters"]
    assert json.loads((tmp_path / "whole/out/config.json").read_text())["num_hidden_layers"] == 1
    for stop in (("answers", 1), ("train", 3)):
        with pytest.raises(Interrupted):
            run_task(distil_task.run, tmp_path / "parts", JobKind.TRAIN_DISTIL, inputs, DISTIL, stop=stop)
    run_task(distil_task.run, tmp_path / "parts", JobKind.TRAIN_DISTIL, inputs, DISTIL)
    assert digests(tmp_path / "parts/out") == digests(tmp_path / "whole/out")


def test_a_student_of_its_own_takes_up_the_labels(tmp_path: Path, classifier: Path, data: Path) -> None:
    student = make_tiny_bert(tmp_path / "student", seed=3)
    inputs = {"teacher": classifier, "base": student, "dataset": data}
    parameters = DISTIL | {"hard_fraction": 0.5, "epochs": 4}
    summary, _job = run_task(distil_task.run, tmp_path / "job", JobKind.TRAIN_DISTIL, inputs, parameters)
    assert summary["labels"] == ["card", "network", "place"]
    assert summary["metrics"]["accuracy"] > summary["metrics"]["untaught_accuracy"]


def test_a_writer_teaches_a_writer(tmp_path: Path, writer: Path, chats: Path) -> None:
    inputs = {"teacher": writer, "dataset": chats}
    parameters = DISTIL | {"keep_layers": [0], "top": 16, "epochs": 6}
    summary, _job = run_task(distil_task.run, tmp_path / "whole", JobKind.TRAIN_DISTIL, inputs, parameters)
    found = summary["metrics"]
    assert found["agreement"] > found["untaught_agreement"]
    assert {"perplexity", "untaught_perplexity", "teacher_perplexity"} <= set(found)
    for stop in (("answers", 1), ("train", 2)):
        with pytest.raises(Interrupted):
            run_task(distil_task.run, tmp_path / "parts", JobKind.TRAIN_DISTIL, inputs, parameters, stop=stop)
    run_task(distil_task.run, tmp_path / "parts", JobKind.TRAIN_DISTIL, inputs, parameters)
    assert digests(tmp_path / "parts/out") == digests(tmp_path / "whole/out")


def test_a_student_that_equals_its_teacher_has_no_loss(tmp_path: Path, writer: Path, chats: Path) -> None:
    inputs = {"teacher": writer, "base": writer, "dataset": chats}
    parameters = DISTIL | {"top": 1024, "epochs": 1, "learning_rate": 1e-9}
    summary, _job = run_task(distil_task.run, tmp_path, JobKind.TRAIN_DISTIL, inputs, parameters)
    assert summary["final_loss"] == pytest.approx(0, abs=1e-4)


def test_what_cannot_be_taught_is_refused(
    tmp_path: Path, classifier: Path, writer: Path, data: Path, chats: Path
) -> None:
    headless = make_tiny_bert(tmp_path / "headless")
    other = tmp_path / "other"
    inputs = {"base": headless, "dataset": write_dataset(tmp_path / "d", _renamed(data), _renamed(data))}
    run_task(classify_task.run, other, JobKind.TRAIN_CLASSIFY, inputs, {"method": "baseline"})
    strange = _with_other_words(writer, tmp_path / "strange")
    for name, given, code in (
        ("a", {"teacher": headless, "dataset": data}, "training.teacher_without_head"),
        ("b", {"teacher": classifier, "base": other / "out", "dataset": data}, "training.other_labels"),
        ("c", {"teacher": writer, "base": strange, "dataset": chats}, "training.other_tokenizer"),
    ):
        with pytest.raises(BadInput) as refused:
            run_task(distil_task.run, tmp_path / name, JobKind.TRAIN_DISTIL, given, DISTIL)
        assert refused.value.code == code


def _renamed(data: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    return [row | {"label": row["label"].upper()} for row in rows]


def _with_other_words(writer: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in writer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.__getitem__)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder
