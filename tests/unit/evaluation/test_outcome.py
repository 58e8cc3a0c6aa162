"""What a task makes of answers, by hand-made ones."""

from __future__ import annotations

import re
from typing import Any

import pytest

from appliance.evaluation.intervals import figure
from appliance.evaluation.outcome import TaskOutcome, chosen, classified, generated, surprised
from appliance.evaluation.suite import ExactMatch, Generation, JsonValidity, Regression, RougeL, Row, TokenF1


def score(task: Generation, rows: list[Row], answers: list[str]) -> TaskOutcome:
    return generated(task, rows, answers, search=lambda pattern, text: re.search(pattern, text) is not None)


def values(outcome: TaskOutcome, metric: str) -> list[Any]:
    return list(outcome.scores[metric].values)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("steps", "answer", "right"),
    [
        (("whitespace",), " Port  8443 ", True),
        (("whitespace",), "port 8443", False),
        (("whitespace", "case"), "port 8443", True),
        (("whitespace", "punctuation"), "Port 8443.", True),
        (("whitespace", "case", "articles"), "The port 8443", True),
        ((), "Port 8443 ", False),
    ],
)
def test_exact_match_normalises_as_told(steps: tuple[Any, ...], answer: str, right: bool) -> None:
    task = ExactMatch(name="t", normalise=steps)
    outcome = score(task, [Row(prompt="?", answer=("nothing", "Port 8443"))], [answer])
    assert values(outcome, "exact_match") == [float(right)]


def test_an_answer_ends_before_what_ends_it() -> None:
    task = ExactMatch(name="t", until=("\n\n", "###"))
    assert values(score(task, [Row(prompt="?", answer="yes")], ["yes\n\nno ### never"]), "exact_match") == [1.0]


def test_overlaps_by_hand() -> None:
    rows = [Row(prompt="?", answer="The cat sat on the mat"), Row(prompt="?", answer="nothing")]
    answers = ["a cat on the mat", "else"]
    # SQuAD: {cat, sat, on, mat} and {cat, on, mat} share three words: 2 * 3 / 7.
    assert values(score(TokenF1(name="t"), rows, answers), "f1") == pytest.approx([6 / 7, 0.0])
    # Longest common subsequence of 6 and 5 words: cat on the mat.
    assert values(score(RougeL(name="t"), rows, answers), "rouge_l") == pytest.approx([8 / 11, 0.0])


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ('{"port": 8443}', True),
        ('```json\n{"port": 8443}\n```', True),
        ('{"port": "8443"}', False),
        ('{"port": NaN}', False),
        ("port: 8443", False),
        ("[" * 100_000, False),
    ],
)
def test_json_answers(answer: str, valid: bool) -> None:
    schema = {"type": "object", "properties": {"port": {"type": "integer"}}, "required": ["port"]}
    task = JsonValidity(name="t", answer_schema=schema, fences=True)
    assert values(score(task, [Row(prompt="?")], [answer]), "valid") == [float(valid)]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (Row(prompt="?", must_contain=("8443",), must_not_contain=("22",)), ""),
        (Row(prompt="?", must_contain=("443 ",)), "does not contain"),
        (Row(prompt="?", must_not_contain=("8443",)), "contains '8443'"),
        (Row(prompt="?", matches=r"port \d{4}\."), ""),
        (Row(prompt="?", matches=r"^\d"), "does not match"),
        (Row(prompt="?", equals="It is  port 8443."), ""),
        (Row(prompt="?", equals="It was."), "not the stored answer"),
    ],
)
def test_regression_prompts(row: Row, fault: str) -> None:
    outcome = score(Regression(name="t"), [row], ["It is port 8443."])
    assert values(outcome, "passed") == [float(not fault)]
    assert fault in outcome.predictions[0]["fault"]


def test_a_choice_is_the_likeliest_and_for_its_length() -> None:
    rows = [Row(prompt="?", choices=("no", "absolutely"), gold=1)]
    outcome = chosen(rows, [[2.0, 3.0]])
    assert figure(outcome.scores["acc"]) == 0.0
    assert figure(outcome.scores["acc_norm"]) == 1.0


def test_a_report_counts_every_row_once() -> None:
    truth, found = list("aaabbc"), ["a", "a", "b", "b", "?", "a"]
    rows = [Row(text=str(place), label=label) for place, label in enumerate(truth)]
    outcome = classified(rows, found, ["a", "b", "c"])
    assert figure(outcome.scores["accuracy"]) == pytest.approx(0.5)
    # a: 2 of 3 right, said 3 times -> 2/3; b: 1 right, 2 wanted, 2 said -> 1/2; c: 0.
    assert figure(outcome.scores["macro_f1"]) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert outcome.report["confusion_matrix"] == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert outcome.report["no_label"] == 1
    assert outcome.report["by_label"]["a"] == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
    assert {"rows": 1, "expected": "c", "got": "a"} in outcome.report["most_confused"]


def test_perplexity_is_over_all_tokens_together() -> None:
    outcome = surprised([Row(text="ab"), Row(text="c")], [2.0, 1.0], [2, 1], [2, 1])
    assert figure(outcome.scores["perplexity"]) == pytest.approx(2.718281828)
    assert figure(outcome.scores["bits_per_byte"]) == pytest.approx(1.442695041)
