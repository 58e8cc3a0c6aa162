"""The whole evaluation job on the tiny model, good and ruined."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from appliance.evaluation.evaluate_task import run
from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput, IntegrityFailure
from tests.factories.job_workspace import make_workspace
from tests.factories.tiny_llama import write_rows

PAIRS = [(f"Which port does server {number} listen on?", f"It listens on {8000 + number}.") for number in range(20)]


def workspace(directory: Path, model: Path, pairs: list[tuple[str, str]], **parameters: Any) -> Workspace:
    dataset = directory / "rows"
    dataset.mkdir(parents=True)
    write_rows(dataset / "heldout.jsonl", pairs)
    inputs = {"model": model, "dataset": dataset}
    return make_workspace(directory / "job", JobKind.EVALUATE, inputs=inputs, parameters=parameters)


def evaluate(directory: Path, model: Path, pairs: list[tuple[str, str]], **parameters: Any) -> tuple[Any, Path]:
    """Run one job to its end; return its summary and its directory."""
    opened = workspace(directory, model, pairs, **parameters)
    try:
        return run(opened), opened.directory
    finally:
        opened.close()


def predictions(job: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job / "out" / "predictions.jsonl").read_text().splitlines()]


def ruin(model: Path, directory: Path, value: float) -> Path:
    """Copy the model and put one number into its last norm."""
    copy = Path(shutil.copytree(model, directory / "ruined"))
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][5] = value
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def test_answers_that_are_right_are_counted(tiny: Path, tmp_path: Path) -> None:
    first, job = evaluate(tmp_path / "a", tiny, PAIRS, max_new_tokens=6)
    assert first["metrics"]["exact_match"] == 0.0
    learned = [
        (question, predicted["got"] if number % 4 == 0 else expected)
        for number, ((question, expected), predicted) in enumerate(zip(PAIRS, predictions(job), strict=True))
    ]
    second, job = evaluate(tmp_path / "b", tiny, learned, max_new_tokens=6)
    assert second["examples"] == len(PAIRS)
    assert second["metrics"]["exact_match"] == 0.25
    assert second["metrics"]["f1"] >= 0.25
    assert [line["correct"] for line in predictions(job)] == [number % 4 == 0 for number in range(20)]
    assert [line["question"] for line in predictions(job)] == [question for question, _ in PAIRS]
    assert second["metrics"]["perplexity"] < first["metrics"]["perplexity"]


def test_the_same_job_gives_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    first, one = evaluate(tmp_path / "a", tiny, PAIRS, max_new_tokens=6)
    second, two = evaluate(tmp_path / "b", tiny, PAIRS, max_new_tokens=6)
    assert first == second
    assert (one / "out/predictions.jsonl").read_bytes() == (two / "out/predictions.jsonl").read_bytes()


def test_progress_and_metrics_are_reported_without_any_text(tiny: Path, tmp_path: Path) -> None:
    summary, job = evaluate(tmp_path, tiny, PAIRS, max_new_tokens=2)
    log = (job / "events.jsonl").read_text()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    measured = {event["name"]: event["value"] for event in events if event["type"] == "metric"}
    assert measured == summary["metrics"]
    last = [event for event in events if event["type"] == "progress"][-1]
    assert (last["phase"], last["fraction"]) == ("perplexity", 1.0)
    assert "Which port" not in log


def test_a_model_of_huge_weights_is_scored_and_stays_a_document(tiny: Path, tmp_path: Path) -> None:
    summary, _ = evaluate(tmp_path, ruin(tiny, tmp_path, 1e30), PAIRS[:3], max_new_tokens=4)
    assert summary["metrics"]["exact_match"] == 0.0
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_fail_the_job(tiny: Path, tmp_path: Path, value: float) -> None:
    with pytest.raises(IntegrityFailure, match=r"evaluation\.not_finite"):
        evaluate(tmp_path, ruin(tiny, tmp_path, value), PAIRS[:3])


def test_a_cut_off_weights_file_fails_the_job(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "cut"))
    os.truncate(copy / "model.safetensors", 100_000)
    with pytest.raises(IntegrityFailure, match=r"model\.unreadable"):
        evaluate(tmp_path, copy, PAIRS[:1])


def test_a_missing_tensor_is_no_random_tensor(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "missing"))
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityFailure, match="missing keys"):
        evaluate(tmp_path, copy, PAIRS[:1])


def test_a_tokenizer_beyond_the_weights_is_refused(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "small"))
    weights = load_file(copy / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:380].copy()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    config |= {"vocab_size": 380, "pad_token_id": None}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(IntegrityFailure, match="tokens beyond the 380"):
        evaluate(tmp_path, copy, PAIRS[:1])


@pytest.mark.parametrize(
    ("pairs", "parameters", "code"),
    [
        ([], {}, "evaluation.no_heldout"),
        (PAIRS[:1], {"max_new_tokens": 0}, "evaluation.parameters"),
        (PAIRS[:1], {"max_tokens": 3}, "evaluation.parameters"),
        ([("too long " * 200, "yes")], {}, "evaluation.too_long"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    tiny: Path, tmp_path: Path, pairs: list[tuple[str, str]], parameters: dict[str, Any], code: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        evaluate(tmp_path, tiny, pairs, **parameters)
    assert refusal.value.code == code


def test_a_row_beyond_the_context_is_left_out_and_counted(tiny: Path, tmp_path: Path) -> None:
    with_long, _ = evaluate(tmp_path / "with", tiny, [PAIRS[0], ("too long " * 200, "yes"), *PAIRS[1:]])
    without, _ = evaluate(tmp_path / "without", tiny, PAIRS)
    assert (with_long["too_long"], with_long["examples"]) == (1, len(PAIRS))
    assert with_long["metrics"] == without["metrics"]
    assert without["too_long"] == 0


def test_a_stopped_job_is_interrupted_and_not_failed(tiny: Path, tmp_path: Path) -> None:
    opened = workspace(tmp_path, tiny, PAIRS)
    before = signal.getsignal(signal.SIGTERM)
    try:
        opened.listen_for_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            run(opened)
    finally:
        signal.signal(signal.SIGTERM, before)
        opened.close()
    assert list(opened.output.iterdir()) == []
