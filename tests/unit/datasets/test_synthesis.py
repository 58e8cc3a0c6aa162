from __future__ import annotations

import pytest

from appliance.datasets.prepare import prompt_digest
from appliance.datasets.synthesis import Sieve, chosen_question, request_for_a_question, row_of, seed_of


@pytest.mark.parametrize(
    ("question", "answer", "ended", "code"),
    [
        ("q?", "", True, "empty"),
        ("q?", "It is so", False, "broken_off"),
        ("What is it?", "what  is it?", True, "echo"),
        ("q?", "I do not know. " * 9, True, "repeats"),
        ("q?", "half a \N{REPLACEMENT CHARACTER}", True, "damaged"),
        ("Held out?", "An answer", True, "held_out"),
        ("q?", "A fine answer", True, ""),
    ],
)
def test_answers_that_are_not_kept(question: str, answer: str, ended: bool, code: str) -> None:
    sieve = Sieve(forbidden=frozenset({prompt_digest(row_of("held  out?", ""))}))
    assert sieve.fault(question, answer, ended=ended) == code
    assert sieve.refused == ({code: 1} if code else {})
    assert sieve.kept == (not code)


def test_what_was_written_before_is_not_kept_again() -> None:
    sieve = Sieve()
    answer = "You find it in the drawer of the desk by the window."
    assert sieve.fault("Where is it?", answer, ended=True) == ""
    assert sieve.fault("Where is it?", f"{answer}!", ended=True) == "near_duplicate"
    assert sieve.fault("Where is it?", "Nobody knows.", ended=True) == ""


def test_every_question_comes_in_turn_and_each_round_otherwise() -> None:
    questions = [f"q{i}" for i in range(7)]
    rounds = [[chosen_question(questions, 0, 7 * around + i) for i in range(7)] for around in range(3)]
    assert all(sorted(one) == questions for one in rounds)
    assert len({tuple(one) for one in rounds}) == 3
    assert rounds[0] != [chosen_question(questions, 1, i) for i in range(7)]


def test_a_model_is_shown_three_questions_and_asked_for_another() -> None:
    text = request_for_a_question([f"Question {i}?" for i in range(9)], 0, 0)
    assert text.count("- Question") == 3
    assert text != request_for_a_question([f"Question {i}?" for i in range(9)], 0, 1)
    assert seed_of(1, "a", 2) == seed_of(1, "a", 2) != seed_of(1, "a", 3)
