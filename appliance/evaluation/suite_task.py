"""The part of the evaluation job that runs a suite, or one classification over a data set.

Writes `out/predictions/TASK.jsonl` (or `out/predictions.jsonl`), `out/scores.json` (what each row scored; two
evaluations are compared by it) and `out/report.json` (figures, intervals, reports with confusion matrices). Finished
tasks are kept: a run that was killed repeats only the open one, and gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from appliance.evaluation.finished_tasks import FinishedTasks
from appliance.evaluation.intervals import figure, interval
from appliance.evaluation.outcome import TaskOutcome
from appliance.evaluation.scores import TaskScores, encode_scores, metric_name
from appliance.evaluation.suite import Classification, Row, Suite, Task, decode_suite
from appliance.evaluation.suite_rows import rows_of
from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import write_file
from appliance.kernel.errors import BadInput
from appliance.kernel.events import CheckpointSkipped, Metric, Note, Progress

Asked = tuple[tuple[Task, tuple[Row, ...]], ...]
"""Tasks with their rows; a task without a name is the only one."""
_DIGITS = 9
_MOST_LABELS = 100
"""A report over more labels stands in report.json alone."""


def run_suite(workspace: Workspace) -> dict[str, Any]:
    """Run the suite of the input "suite"; its data sets are the inputs "data.NAME@VERSION"."""
    suite = decode_suite((workspace.input("suite") / "suite.json").read_bytes())
    return evaluate(workspace, _asked(workspace, suite))


def run_classification(workspace: Workspace, rows: tuple[Row, ...]) -> dict[str, Any]:
    """Measure a model on the held-out part of a classification data set."""
    return evaluate(workspace, ((Classification(name="", rows=rows), rows),))


def evaluate(workspace: Workspace, asked: Asked) -> dict[str, Any]:
    """Answer every task, write the outputs and return the summary. Raises Interrupted between batches."""
    workspace.emit(Progress(phase="loading"))
    kept = FinishedTasks(workspace.checkpoints, run=workspace.spec.run_id)
    outcomes = [_recalled(workspace, kept, place) for place in range(len(asked))]
    if any(outcome is None for outcome in outcomes):
        _answer(workspace, kept, asked, outcomes)
    return _write(workspace, asked, [outcome for outcome in outcomes if outcome is not None])


def _asked(workspace: Workspace, suite: Suite) -> Asked:
    return tuple(
        (task, rows_of(task, workspace.input(f"data.{task.data}") if task.data else None)) for task in suite.tasks
    )


def _recalled(workspace: Workspace, kept: FinishedTasks, place: int) -> TaskOutcome | None:
    found = kept.load(place)
    if isinstance(found, CheckpointSkipped):
        workspace.emit(found)
        return None
    return found


def _answer(workspace: Workspace, kept: FinishedTasks, asked: Asked, outcomes: list[TaskOutcome | None]) -> None:
    # Before torch is imported a wrong suite or data set has already been refused.
    import torch

    from appliance.evaluation.runner import Runner

    torch.set_num_threads(workspace.spec.environment.threads)
    torch.manual_seed(workspace.spec.seed)
    with Runner(workspace.input("model")) as runner:
        for place, (task, rows) in enumerate(asked):
            if outcomes[place] is not None:
                continue
            outcomes[place] = runner.run(task, rows, _on_rows(workspace, task, place, len(asked)))
            workspace.emit(kept.save(place, outcomes[place] or _impossible()))
            if workspace.stop_requested():
                raise Interrupted


def _impossible() -> TaskOutcome:
    raise AssertionError("a task that ran has an outcome")


def _on_rows(workspace: Workspace, task: Task, place: int, tasks: int) -> Callable[[int, int], None]:
    def report(done: int, of: int) -> None:
        if workspace.stop_requested():
            raise Interrupted
        fraction = (place + done / of) / tasks
        workspace.emit(Progress(phase=task.name or "classifying", fraction=fraction, step=done, steps=of))

    return report


def _write(workspace: Workspace, asked: Asked, outcomes: list[TaskOutcome]) -> dict[str, Any]:
    named = [(task.name, outcome) for (task, _), outcome in zip(asked, outcomes, strict=True)]
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    informative: dict[str, float] = {}
    reports: dict[str, Any] = {}
    for name, outcome in named:
        for metric, scores in outcome.scores.items():
            full = metric_name(name, metric)
            figures[full] = round(figure(scores), _DIGITS)
            low, high = interval(scores)
            intervals[full] = (round(low, _DIGITS), round(high, _DIGITS))
            workspace.emit(Metric(name=full, value=figures[full]))
        informative |= {metric_name(name, metric): value for metric, value in outcome.informative.items()}
        if outcome.report:
            reports[name or "classification"] = outcome.report
        _write_predictions(workspace, name, outcome)
    if not figures and not informative:
        raise BadInput("suite.empty", "The suite measured nothing.")
    scores_file = tuple(
        TaskScores(task=name, rows=outcome.rows, metrics=outcome.scores) for name, outcome in named if outcome.scores
    )
    write_file(workspace.output / "scores.json", encode_scores(scores_file))
    report = {"metrics": figures, "intervals": intervals, "reports": reports}
    write_file(workspace.output / "report.json", json.dumps(report, indent=1, sort_keys=True).encode() + b"\n")
    if informative:
        workspace.emit(Note(text="Speeds are of this machine at this time; they are no metric of the model."))
    return {
        "metrics": figures,
        "intervals": intervals,
        "informative": informative,
        "examples": sum(len(rows) for _, rows in asked),
        "tasks": [
            {"name": task.name, "type": msgspec.to_builtins(task)["type"], "rows": len(rows)} for task, rows in asked
        ],
        "reports": {name: short(one) for name, one in reports.items()},
    }


def _write_predictions(workspace: Workspace, name: str, outcome: TaskOutcome) -> None:
    if not outcome.predictions:
        return
    path = workspace.output / "predictions" / f"{name}.jsonl" if name else workspace.output / "predictions.jsonl"
    path.parent.mkdir(exist_ok=True)
    write_file(path, b"".join(canonical_json(line) + b"\n" for line in outcome.predictions))


def short(report: dict[str, Any]) -> dict[str, Any]:
    """Return what of a report is told with the job."""
    kept: dict[str, Any] = {name: report[name] for name in ("most_confused", "no_label") if name in report}
    if len(report.get("labels", ())) <= _MOST_LABELS:
        kept["by_label"] = report["by_label"]
    return kept
