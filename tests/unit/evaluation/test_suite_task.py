"""Whole evaluations with suites on tiny models: every type of task, what is kept when killed, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.evaluation import suite_task
from appliance.evaluation.evaluate_task import run
from appliance.evaluation.scores import decode_scores
from appliance.evaluation.suite import encode_suite, parse_suite
from appliance.jobs.spec import JobKind
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput, IntegrityFailure
from tests.factories.job_workspace import make_workspace
from tests.factories.tiny_encoder import make_tiny_bert
from tests.factories.tiny_llama import write_rows

ASKED = [{"prompt": f"Which port does server {number} use?", "answer": str(8000 + number)} for number in range(6)]
TASKS: list[dict[str, Any]] = [
    {"name": "exact", "type": "exact_match", "rows": ASKED, "max_new_tokens": 6},
    {"name": "overlap", "type": "f1", "rows": ASKED, "max_new_tokens": 6},
    {"name": "held", "type": "rouge_l", "data": "faq@1", "limit": 2, "max_new_tokens": 4},
    {"name": "text", "type": "perplexity", "rows": [{"text": "The gateway listens on port 8443. " * 30}]},
    {
        "name": "choice",
        "type": "multiple_choice",
        "rows": [{"prompt": "The gateway listens on", "choices": [" port 8443", " xqz"], "gold": 0}],
    },
    {
        "name": "label",
        "type": "classification",
        "rows": [{"text": "a b", "label": "yes"}, {"text": "c", "label": "no"}],
    },
    {"name": "shape", "type": "json", "rows": [{"prompt": "JSON!"}], "max_new_tokens": 4},
    {"name": "fixed", "type": "regression", "rows": [{"prompt": "Why?", "must_not_contain": ["\u2603"]}]},
    {"name": "speed", "type": "latency", "rows": [{"prompt": "Why?"}], "new_tokens": 3},
]


def workspace(directory: Path, model: Path, tasks: Sequence[dict[str, Any]]) -> Workspace:
    suite = parse_suite({"tasks": list(tasks)}, source="suite.yaml")
    for name in ("suite", "rows"):
        (directory / name).mkdir(parents=True)
    (directory / "suite" / "suite.json").write_bytes(encode_suite(suite))
    write_rows(directory / "rows" / "heldout.jsonl", [("Why?", "Because."), ("Who?", "I."), ("When?", "Now.")])
    inputs = {"model": model, "suite": directory / "suite"} | {
        f"data.{data}": directory / "rows" for data in suite.data
    }
    return make_workspace(directory / "job", JobKind.EVALUATE, inputs=inputs)


def evaluate(directory: Path, model: Path, tasks: Sequence[dict[str, Any]] = TASKS) -> tuple[Any, Path]:
    opened = workspace(directory, model, tasks)
    try:
        return run(opened), opened.output
    finally:
        opened.close()


def test_every_type_of_task_is_measured(tiny: Path, tmp_path: Path) -> None:
    summary, output = evaluate(tmp_path, tiny)
    assert set(summary["metrics"]) == {
        *("exact.exact_match", "overlap.f1", "held.rouge_l", "text.perplexity", "text.bits_per_byte"),
        *("choice.acc", "choice.acc_norm", "label.accuracy", "label.macro_f1", "shape.valid", "fixed.passed"),
    }
    assert set(summary["informative"]) == {"speed.time_to_first_token", "speed.tokens_per_second"}
    assert all(low <= summary["metrics"][name] <= high for name, (low, high) in summary["intervals"].items())
    assert summary["metrics"]["fixed.passed"] == 1.0
    assert summary["examples"] == 6 + 6 + 2 + 1 + 1 + 2 + 1 + 1 + 1
    scores = decode_scores((output / "scores.json").read_bytes())
    assert set(scores) == set(summary["metrics"])
    predictions = [json.loads(line) for line in (output / "predictions" / "exact.jsonl").read_text().splitlines()]
    assert [line["question"] for line in predictions] == [row["prompt"] for row in ASKED]
    report = json.loads((output / "report.json").read_text())
    assert sum(map(sum, report["reports"]["label"]["confusion_matrix"])) == 2
    json.dumps(summary, allow_nan=False)


def test_a_text_longer_than_the_context_is_scored_in_pieces(tiny: Path, tmp_path: Path) -> None:
    long = {"text": "The quick brown fox jumps over the lazy dog. " * 60}
    _, output = evaluate(tmp_path, tiny, [{"name": "text", "type": "perplexity", "rows": [long]}])
    (line,) = [json.loads(line) for line in (output / "predictions" / "text.jsonl").read_text().splitlines()]
    assert line["tokens"] > 256


class _Stopping:
    """A workspace's stop flag that a test raises after so many looks."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_stopped_run_goes_on_after_its_last_finished_task_and_gives_the_same_bytes(
    tiny: Path, tmp_path: Path
) -> None:
    tasks = TASKS[:-1]  # speeds differ from run to run
    whole, output = evaluate(tmp_path / "whole", tiny, tasks)
    first = workspace(tmp_path / "cut", tiny, tasks)
    first.stop_requested = _Stopping(5)  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        run(first)
    first.close()
    kept = sorted(path.name for path in first.checkpoints.iterdir())
    assert kept[:1] == ["task-0000.json"]
    assert len(kept) < len(tasks)
    again = Workspace(first.directory)
    resumed = run(again)
    again.close()
    assert resumed == whole
    for name in ("scores.json", "report.json", "predictions/exact.jsonl", "predictions/held.jsonl"):
        assert (again.output / name).read_bytes() == (output / name).read_bytes()
    log = (again.directory / "events.jsonl").read_text()
    assert log.count('"type":"checkpoint"') == len(tasks)


def test_a_kept_task_that_was_damaged_is_done_again(tiny: Path, tmp_path: Path) -> None:
    opened = workspace(tmp_path, tiny, TASKS[:2])
    before = run(opened)
    kept = opened.checkpoints / "task-0001.json"
    kept.write_bytes(kept.read_bytes().replace(b'"f1"', b'"f2"', 1))
    shutil.rmtree(opened.output)
    opened.output.mkdir()
    assert run(opened) == before
    opened.close()
    assert "checkpoint_skipped" in (opened.directory / "events.jsonl").read_text()


def test_a_classifier_is_measured_on_its_own_labels(tmp_path: Path) -> None:
    model = make_tiny_bert(tmp_path / "bert", labels=("card", "cash", "beach"))
    rows = [{"text": f"my card was lost {word}", "label": label} for word in "abcdef" for label in ("card", "cash")]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    opened = make_workspace(tmp_path / "job", JobKind.EVALUATE, inputs={"model": model, "dataset": tmp_path / "rows"})
    summary = run(opened)
    opened.close()
    assert set(summary["metrics"]) == {"accuracy", "macro_f1"}
    assert summary["examples"] == 12
    # Each text stands there twice, with two labels: a classifier cannot have both right.
    assert summary["metrics"]["accuracy"] <= 0.5
    assert (opened.output / "predictions.jsonl").is_file()
    with pytest.raises(BadInput, match=r"evaluation\.task_kind"):
        evaluate(tmp_path / "suite", model, TASKS[:1])
    foreign = [{"name": "l", "type": "classification", "rows": [{"text": "a", "label": "moon"}]}]
    with pytest.raises(BadInput, match=r"evaluation\.labels"):
        evaluate(tmp_path / "foreign", model, foreign)


def test_what_cannot_be_asked_is_refused_by_its_task(tiny: Path, tmp_path: Path) -> None:
    tasks = [{"name": "long", "type": "exact_match", "rows": [{"prompt": "word " * 400, "answer": "x"}]}]
    with pytest.raises(BadInput, match=r"evaluation\.too_long: A row of the task long"):
        evaluate(tmp_path / "a", tiny, tasks)
    held = [{"name": "t", "type": "classification", "data": "faq@1"}]
    with pytest.raises(BadInput, match=r"suite\.row: task t, held-out row 1 of faq@1"):
        evaluate(tmp_path / "b", tiny, held)
    bomb = [{"name": "t", "type": "regression", "rows": [{"prompt": "Why?", "matches": "(.*.*)*(.*.*)*[^\\s\\S]"}]}]
    with pytest.raises(BadInput, match=r"evaluation\.pattern"):
        evaluate(tmp_path / "c", tiny, bomb)


def test_a_model_without_tokenizer_is_refused(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "bare"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(IntegrityFailure, match=r"model\.unreadable"):
        evaluate(tmp_path / "a", copy, TASKS[:1])


def test_a_long_report_stays_out_of_the_summary() -> None:
    labels = [str(number) for number in range(101)]
    report = {"labels": labels, "by_label": {label: {} for label in labels}, "most_confused": [], "no_label": 0}
    assert "by_label" not in suite_task.short(report)
