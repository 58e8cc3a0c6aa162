"""What each row of a task scored, and the figure that rows make together. Pure; the numbers are in `intervals`.

Rows are named by a digest of their question, so that two evaluations can be compared row by row and never by place.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from appliance.kernel.canonical import canonical_json, digest_of
from appliance.kernel.errors import IntegrityFailure

_ROW_DIGITS: Final = 16


class Mean(msgspec.Struct, frozen=True, kw_only=True, tag="mean"):
    """The figure is the mean over rows; more is better."""

    values: tuple[float, ...]
    yes_no: bool = False
    """every value is 0 or 1, so McNemar's test applies"""


class Surprise(msgspec.Struct, frozen=True, kw_only=True, tag="surprise"):
    """The figure is exp(sum of nats / sum of units), or its base-2 logarithm; less is better."""

    nats: tuple[float, ...]
    units: tuple[int, ...]
    bits: bool = False


class MacroF1(msgspec.Struct, frozen=True, kw_only=True, tag="macro_f1"):
    """The figure is the mean F1 over labels; more is better. `found` is -1 where no label was given."""

    truth: tuple[int, ...]
    found: tuple[int, ...]
    labels: int


Scores = Mean | Surprise | MacroF1


class TaskScores(msgspec.Struct, frozen=True, kw_only=True):
    """One task: its rows by digest, and what they scored by metric."""

    task: str
    rows: tuple[str, ...]
    metrics: dict[str, Scores]


def lower_is_better(scores: Scores) -> bool:
    """Tell which way a metric is good."""
    return isinstance(scores, Surprise)


def row_digest(row: Any) -> str:
    """Return what names a row in scores."""
    return digest_of(row)[:_ROW_DIGITS]


def metric_name(task: str, metric: str) -> str:
    """Return `task.metric`, or the metric alone for an evaluation on a data set."""
    return f"{task}.{metric}" if task else metric


def encode_scores(tasks: tuple[TaskScores, ...]) -> bytes:
    """Return the bytes of `scores.json`."""
    return canonical_json(msgspec.to_builtins(tasks)) + b"\n"


def decode_scores(data: bytes) -> dict[str, tuple[tuple[str, ...], Scores]]:
    """Return rows and scores by `task.metric`. Raises IntegrityFailure (`evaluation.scores`)."""
    try:
        tasks = msgspec.json.decode(data, type=tuple[TaskScores, ...])
    except msgspec.MsgspecError as error:
        raise IntegrityFailure("evaluation.scores", f"An evaluation's scores cannot be read: {error}.") from error
    return {
        metric_name(task.task, name): (task.rows, scores) for task in tasks for name, scores in task.metrics.items()
    }
