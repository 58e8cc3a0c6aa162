"""What a task makes of a model's answers: scores for each row, a report, and one line of predictions for each row.

Pure: it is given texts, likelihoods and labels, and knows no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from appliance.evaluation import metrics
from appliance.evaluation.json_schema import Search, first_fault
from appliance.evaluation.scores import MacroF1, Mean, Scores, Surprise, row_digest
from appliance.evaluation.suite import (
    ExactMatch,
    Generation,
    JsonValidity,
    Regression,
    RougeL,
    Row,
    TokenF1,
)

_FENCED = re.compile(r"\A```[A-Za-z0-9]*\n(?P<inner>.*)\n```\Z", re.DOTALL)
_MOST_CONFUSED: Final = 20


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One finished task."""

    rows: tuple[str, ...]
    scores: dict[str, Scores]
    predictions: tuple[dict[str, Any], ...] = ()
    informative: dict[str, float] = {}
    """figures of this machine at this time; no gate counts them unless it says so"""
    report: dict[str, Any] = {}


def generated(task: Generation, rows: Sequence[Row], answers: Sequence[str], *, search: Search) -> TaskOutcome:
    """Score generated answers."""
    answers = [_until(answer, task.until) for answer in answers]
    match task:
        case ExactMatch():
            return _overlap(task, rows, answers, "exact_match", _equal)
        case TokenF1():
            return _overlap(task, rows, answers, "f1", metrics.token_f1)
        case RougeL():
            return _overlap(task, rows, answers, "rouge_l", metrics.rouge_l)
        case JsonValidity():
            faults = [_json_fault(task, answer, search) for answer in answers]
            return _judged("valid", rows, answers, faults)
        case Regression():
            faults = [_regression_fault(row, answer, search) for row, answer in zip(rows, answers, strict=True)]
            return _judged("passed", rows, answers, faults)


def surprised(rows: Sequence[Row], nats: Sequence[float], tokens: Sequence[int], sizes: Sequence[int]) -> TaskOutcome:
    """Perplexity per token and bits per byte, from each row's negative log likelihood."""
    return TaskOutcome(
        rows=_digests(rows),
        scores={
            "perplexity": Surprise(nats=tuple(nats), units=tuple(tokens)),
            "bits_per_byte": Surprise(nats=tuple(nats), units=tuple(sizes), bits=True),
        },
        predictions=tuple(
            {"question": row.question, "nats": nat, "tokens": count}
            for row, nat, count in zip(rows, nats, tokens, strict=True)
        ),
    )


def chosen(rows: Sequence[Row], nats: Sequence[Sequence[float]]) -> TaskOutcome:
    """Multiple choice from each choice's negative log likelihood; of equals the first counts."""
    plain = [least(one) for one in nats]
    by_size = [least_per_byte(one, row.choices) for row, one in zip(rows, nats, strict=True)]
    return TaskOutcome(
        rows=_digests(rows),
        scores={
            "acc": _share([pick == row.gold for pick, row in zip(plain, rows, strict=True)]),
            "acc_norm": _share([pick == row.gold for pick, row in zip(by_size, rows, strict=True)]),
        },
        predictions=tuple(
            {"question": row.question, "gold": row.gold, "got": pick, "got_norm": norm, "nats": list(one)}
            for row, pick, norm, one in zip(rows, plain, by_size, nats, strict=True)
        ),
    )


def classified(rows: Sequence[Row], found: Sequence[str], labels: Sequence[str]) -> TaskOutcome:
    """Accuracy, macro F1, a report by label and the confusion matrix; a foreign answer is wrong for its label."""
    number = {label: place for place, label in enumerate(labels)}
    truth = [number[row.label or ""] for row in rows]
    given = [number.get(label, -1) for label in found]
    return TaskOutcome(
        rows=_digests(rows),
        scores={
            "accuracy": _share([one == other for one, other in zip(truth, given, strict=True)]),
            "macro_f1": MacroF1(truth=tuple(truth), found=tuple(given), labels=len(labels)),
        },
        predictions=tuple(
            {"question": row.question, "expected": row.label, "got": label, "correct": row.label == label}
            for row, label in zip(rows, found, strict=True)
        ),
        report=_report(truth, given, labels),
    )


def least(nats: Sequence[float]) -> int:
    """Return which of some texts is the most likely."""
    return min(range(len(nats)), key=lambda place: (nats[place], place))


def least_per_byte(nats: Sequence[float], texts: Sequence[str]) -> int:
    """Return which of some texts is the most likely for its length in bytes."""
    return least([nat / max(1, len(text.encode())) for nat, text in zip(nats, texts, strict=True)])


def _overlap(task: Any, rows: Sequence[Row], answers: Sequence[str], name: str, score: Any) -> TaskOutcome:
    """Score against whichever expected answer fits best."""
    values = [
        max(
            float(score(metrics.normalised(wanted, task.normalise), metrics.normalised(answer, task.normalise)))
            for wanted in row.answers
        )
        for row, answer in zip(rows, answers, strict=True)
    ]
    return TaskOutcome(
        rows=_digests(rows),
        scores={name: Mean(values=tuple(values), yes_no=name == "exact_match")},
        predictions=tuple(
            {"question": row.question, "expected": list(row.answers), "got": answer, name: value}
            for row, answer, value in zip(rows, answers, values, strict=True)
        ),
    )


def _equal(wanted: str, got: str) -> float:
    return float(wanted == got)


def _judged(name: str, rows: Sequence[Row], answers: Sequence[str], faults: Sequence[str]) -> TaskOutcome:
    return TaskOutcome(
        rows=_digests(rows),
        scores={name: _share([not fault for fault in faults])},
        predictions=tuple(
            {"question": row.question, "got": answer, name: not fault, "fault": fault}
            for row, answer, fault in zip(rows, answers, faults, strict=True)
        ),
    )


def _json_fault(task: JsonValidity, answer: str, search: Search) -> str:
    text = answer.strip()
    fenced = _FENCED.match(text) if task.fences else None
    try:
        value = json.loads(fenced["inner"] if fenced else text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {str(error)[:100]}"
    return "" if task.answer_schema is None else first_fault(value, task.answer_schema, search=search)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _regression_fault(row: Row, answer: str, search: Search) -> str:
    for text in row.must_contain:
        if text not in answer:
            return f"it does not contain {text[:60]!r}"
    for text in row.must_not_contain:
        if text in answer:
            return f"it contains {text[:60]!r}"
    if row.equals is not None and metrics.normalise(row.equals) != metrics.normalise(answer):
        return "it is not the stored answer"
    if row.matches is not None and not search(row.matches, answer):
        return f"it does not match {row.matches[:60]!r}"
    return ""


def _until(answer: str, ends: Sequence[str]) -> str:
    cuts = [place for end in ends if (place := answer.find(end)) >= 0]
    return answer[: min(cuts)] if cuts else answer


def _share(right: Sequence[bool]) -> Mean:
    return Mean(values=tuple(float(one) for one in right), yes_no=True)


def _digests(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(row_digest(msgspec.to_builtins(row)) for row in rows)


def _report(truth: Sequence[int], found: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    matrix = [[0] * (len(labels) + 1) for _ in labels]
    for wanted, got in zip(truth, found, strict=True):
        matrix[wanted][got] += 1  # -1 is the last column: no label of these
    by_label: dict[str, Mapping[str, float]] = {}
    for place, label in enumerate(labels):
        right, support = matrix[place][place], sum(matrix[place])
        said = sum(row[place] for row in matrix)
        by_label[label] = {
            "precision": right / said if said else 0.0,
            "recall": right / support if support else 0.0,
            "f1": 2 * right / (said + support) if said + support else 0.0,
            "support": support,
        }
    confused = sorted(
        (
            (matrix[one][other], labels[one], labels[other])
            for one in range(len(labels))
            for other in range(len(labels))
            if one != other and matrix[one][other]
        ),
        key=lambda entry: (-entry[0], entry[1], entry[2]),
    )
    return {
        "labels": list(labels),
        "by_label": by_label,
        "confusion_matrix": [row[:-1] for row in matrix],
        "no_label": sum(row[-1] for row in matrix),
        "most_confused": [
            {"rows": count, "expected": wanted, "got": got} for count, wanted, got in confused[:_MOST_CONFUSED]
        ],
    }
