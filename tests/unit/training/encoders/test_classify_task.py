"""The classification job on a tiny encoder: what it leaves, that it repeats, stops and resumes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from appliance.engine.encoder import Passage
from appliance.engine.encoder_torch import TorchEncoder
from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Note
from appliance.training.encoders import classify_task
from tests.factories.labelled_texts import labelled_rows, write_dataset
from tests.factories.stoppable_job import StoppableJob, digests, run_task
from tests.factories.tiny_encoder import make_tiny_bert
from tests.factories.tiny_llama import make_tiny_llama

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

QUICK = {"batch_size": 16, "epochs": 2, "learning_rate": 0.003, "checkpoint_seconds": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("base") / "encoder")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), labelled_rows(90), labelled_rows(45, start=1000))


def classify(directory: Path, inputs: dict[str, Path], **more: Any) -> tuple[dict[str, Any], StoppableJob]:
    stop = more.pop("stop", ("", 0))
    return run_task(classify_task.run, directory, JobKind.TRAIN_CLASSIFY, inputs, QUICK | more, stop=stop)


def test_the_baseline_keeps_the_encoder_byte_by_byte(tmp_path: Path, base: Path, data: Path) -> None:
    summary, _job = classify(tmp_path, {"base": base, "dataset": data}, method="baseline")
    made = digests(tmp_path / "out")
    assert made["model.safetensors"] == digests(base)["model.safetensors"]
    assert {"intramuros_head.json", "intramuros_head.safetensors", "tokenizer.json"} <= set(made)
    assert summary["method"] == "baseline"
    assert summary["verdict"] == "not compared"
    assert summary["labels"] == ["card", "network", "place"]
    assert summary["baseline"] == pytest.approx({"accuracy": 1 / 3, "macro_f1": 0.5 / 3})
    assert summary["metrics"]["accuracy"] > 0.5
    report = json.loads((tmp_path / "out/report/report.json").read_text())
    assert report["methods"]["baseline"]["accuracy"] == round(summary["metrics"]["accuracy"], 6)
    low, high = report["methods"]["baseline"]["accuracy_interval"]
    assert low < report["methods"]["baseline"]["accuracy"] <= high
    lines = (tmp_path / "out/report/predictions.jsonl").read_text().splitlines()
    right = [json.loads(line)["correct"] for line in lines]
    assert sum(right) / len(right) == summary["metrics"]["accuracy"]


def test_tuning_ends_early_on_rows_set_aside(tmp_path: Path, base: Path, data: Path) -> None:
    early = {"method": "finetune", "epochs": 100, "evaluate_every": 2, "patience": 2, "schedule": "constant"}
    summary, _job = classify(tmp_path, {"base": base, "dataset": data}, **early)
    assert 0 < summary["best_step"] < summary["steps"] < 100 * 6
    assert summary["best_validation_loss"] > 0


def test_tuning_gains_and_says_so_and_a_stopped_run_ends_with_the_same_bytes(
    tmp_path: Path, base: Path, data: Path
) -> None:
    inputs = {"base": base, "dataset": data}
    summary, job = classify(tmp_path / "whole", inputs, method="auto")
    report = json.loads((tmp_path / "whole/out/report/report.json").read_text())
    compared = report["comparison"]
    before, after = (summary["metrics"][f"{name}_accuracy"] for name in ("baseline", "finetune"))
    # Whatever was found, the three places that tell it agree.
    assert compared["verdict"] == summary["verdict"] in ("gain", "no gain", "loss")
    assert (compared["only_finetune_right"] - compared["only_baseline_right"]) / 45 == pytest.approx(after - before)
    assert (summary["baseline"]["accuracy"] == before) is (summary["method"] == "finetune")
    assert summary["method"] == ("finetune" if compared["verdict"] == "gain" else "baseline")
    assert any("McNemar" in event.text for event in job.events if isinstance(event, Note))
    for stop in (("vectors", 1), ("regression", 2), ("train", 3)):
        with pytest.raises(Interrupted):
            classify(tmp_path / "parts", inputs, method="auto", stop=stop)
        assert not list((tmp_path / "parts/out").iterdir())
    again, _job = classify(tmp_path / "parts", inputs, method="auto")
    assert digests(tmp_path / "parts/out") == digests(tmp_path / "whole/out")
    assert again["metrics"] == summary["metrics"]


def test_products_of_half_precision_learn_as_well(tmp_path: Path, base: Path, data: Path) -> None:
    inputs = {"base": base, "dataset": data}
    plain, _job = classify(tmp_path / "plain", inputs, method="finetune")
    half, _job = classify(tmp_path / "half", inputs, method="finetune", precision="bfloat16")
    assert half["metrics"]["accuracy"] == pytest.approx(plain["metrics"]["accuracy"], abs=0.15)
    made = [digests(tmp_path / name / "out")["model.safetensors"] for name in ("plain", "half")]
    assert made[0] != made[1]
    stored = load_file(tmp_path / "half/out/model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in stored.values())


def test_what_one_fold_computed_serves_another_and_changes_nothing(tmp_path: Path, base: Path) -> None:
    rows = labelled_rows(60)
    folds = [write_dataset(tmp_path / f"data{at}", rows[at:] + rows[: at - 20], rows[at - 20 : at]) for at in (20, 40)]
    classify(tmp_path / "first", {"base": base, "dataset": folds[0]}, method="baseline")
    alone, job = classify(tmp_path / "alone", {"base": base, "dataset": folds[1]}, method="baseline")
    shutil.copytree(tmp_path / "first/shared", tmp_path / "second/shared")
    second, taken = classify(tmp_path / "second", {"base": base, "dataset": folds[1]}, method="baseline")
    said = "1 of 1 parts of the vectors had been computed before."
    assert [any(event == Note(text=said) for event in one.events) for one in (job, taken)] == [False, True]
    assert second["metrics"] == alone["metrics"]
    assert digests(tmp_path / "second/out") == digests(tmp_path / "alone/out")


def test_what_is_served_is_what_the_job_measured(tmp_path: Path, base: Path, data: Path) -> None:
    for method in ("baseline", "finetune"):
        classify(tmp_path / method, {"base": base, "dataset": data}, method=method)
        output = tmp_path / method / "out"
        served = TorchEncoder(output, kind="classify", context=1 << 20, threads=1)
        assert served.labels == ("card", "network", "place")
        predicted = [json.loads(line) for line in (output / "report/predictions.jsonl").read_text().splitlines()]
        assert len({line["got"] for line in predicted}) > 1
        for line in predicted:
            tokens = (*served.single.before, *served.tokenise(line["text"]), *served.single.after)
            scores = served.compute([Passage(tokens, len(tokens))])[0]
            assert served.labels[int(scores.argmax())] == line["got"]
            assert float(scores.max()) == pytest.approx(line["score"], abs=2e-6)


def test_the_head_changes_the_answer(tmp_path: Path, base: Path, data: Path) -> None:
    """So that the test above could fail."""
    classify(tmp_path, {"base": base, "dataset": data}, method="baseline")
    from appliance.weights.head import Head, read_head, write_head

    output = tmp_path / "out"
    before = TorchEncoder(output, kind="classify", context=64, threads=1)
    head = read_head(output, hidden=32)
    write_head(output, Head(config=head.config, weight=-head.weight, bias=head.bias))
    after = TorchEncoder(output, kind="classify", context=64, threads=1)
    tokens = (*before.single.before, *before.tokenise("my card"), *before.single.after)
    passage = [Passage(tokens, len(tokens))]
    assert not np.allclose(before.compute(passage), after.compute(passage), atol=0.01)


def test_chats_of_one_question_and_one_answer_serve_too(tmp_path: Path, base: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": row["label"]}]}
        for row in labelled_rows(30)
    ]
    data = write_dataset(tmp_path / "chat", rows[:20], rows[20:])
    summary, _job = classify(tmp_path / "job", {"base": base, "dataset": data}, method="baseline")
    assert summary["labels"] == ["card", "network", "place"]


def test_a_label_that_training_never_saw_counts_as_wrong_and_is_told(tmp_path: Path, base: Path) -> None:
    rows = labelled_rows(40)
    data = write_dataset(tmp_path / "d", rows[:30], [*rows[30:], {"text": "cash", "label": "money"}])
    summary, job = classify(tmp_path / "job", {"base": base, "dataset": data}, method="baseline")
    assert summary["heldout"] == 11
    assert summary["metrics"]["accuracy"] <= 10 / 11
    notes = [event.text for event in job.events if isinstance(event, Note)]
    assert any("money" in note and "1 rows count as wrong" in note for note in notes)


def test_labels_with_a_single_row_are_named(tmp_path: Path, base: Path) -> None:
    rare = [{"text": f"cash {number}", "label": f"rare {number}"} for number in range(6)]
    data = write_dataset(tmp_path / "d", [*labelled_rows(30), *rare], labelled_rows(9, start=1000))
    _summary, job = classify(tmp_path / "job", {"base": base, "dataset": data}, method="baseline")
    notes = [event.text for event in job.events if isinstance(event, Note)]
    named = "rare 0, rare 1, rare 2, rare 3, rare 4 and 1 more"
    assert f"6 labels have a single training row ({named}); hardly anything is learnt of such a label." in notes


def test_a_text_of_a_million_characters_is_cut(tmp_path: Path, base: Path) -> None:
    rows = labelled_rows(20)
    rows[0] = {"text": "card " * 200_000, "label": "card"}
    data = write_dataset(tmp_path / "d", rows[:15], rows[15:])
    _summary, job = classify(tmp_path / "job", {"base": base, "dataset": data}, method="baseline")
    assert any("1 texts fill all 64 tokens" in event.text for event in job.events if isinstance(event, Note))


@pytest.mark.parametrize(
    ("training", "heldout", "code"),
    [
        ([], labelled_rows(3), "training.dataset_empty"),
        (labelled_rows(9), [], "training.no_heldout"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], labelled_rows(3), "training.one_label"),
        ([{"text": "a", "label": f"l{n}"} for n in range(5000)], labelled_rows(3), "training.too_many_labels"),
        (
            [{"text": "card", "label": row["text"]} for row in labelled_rows(40)],
            labelled_rows(3),
            "training.too_many_labels",
        ),
        ([{"text": "only a text"}], labelled_rows(3), "training.not_labelled"),
        ([{"text": " ", "label": "x"}], labelled_rows(3), "training.row_invalid"),
        ([{"text": 4, "label": "x"}], labelled_rows(3), "training.row_invalid"),
    ],
)
def test_data_that_cannot_be_learned_is_refused(
    tmp_path: Path, base: Path, training: list[Any], heldout: list[Any], code: str
) -> None:
    data = write_dataset(tmp_path / "d", training, heldout)
    with pytest.raises(BadInput) as refused:
        classify(tmp_path / "job", {"base": base, "dataset": data})
    assert refused.value.code == code


def test_a_model_that_generates_is_no_encoder(tmp_path: Path, data: Path) -> None:
    with pytest.raises(BadInput) as refused:
        classify(tmp_path / "job", {"base": make_tiny_llama(tmp_path / "llama"), "dataset": data})
    assert refused.value.code == "model.no_encoder"
