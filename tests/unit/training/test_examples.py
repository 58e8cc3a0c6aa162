"""The shipped data: readable, without leaks, and every word of the FAQ stands in the handbook."""

from __future__ import annotations

import json
import re
from pathlib import Path

import appliance

EXAMPLES = Path(appliance.__file__).parent / "examples"
FAQ = [json.loads(line) for line in (EXAMPLES / "faq.jsonl").read_text().splitlines()]
HANDBOOK = [json.loads(line) for line in (EXAMPLES / "handbook.jsonl").read_text().splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def test_both_parts_are_filled() -> None:
    parts = [row["split"] for row in FAQ]
    assert parts.count("heldout") == 100
    assert parts.count("train") > 500
    assert all(set(row) == {"question", "answer", "split"} for row in FAQ)
    assert all(set(row) == {"text"} for row in HANDBOOK)


def test_no_question_stands_twice() -> None:
    questions = [" ".join(words(row["question"])) for row in FAQ]
    assert len(set(questions)) == len(questions)


def test_held_out_questions_have_known_answers_and_stand_nowhere_else() -> None:
    trained = {row["answer"] for row in FAQ if row["split"] == "train"}
    handbook = " ".join(" ".join(words(row["text"])) for row in HANDBOOK)
    for row in FAQ:
        if row["split"] == "heldout":
            assert row["answer"] in trained
            assert " ".join(words(row["question"])) not in handbook


def test_the_handbook_knows_every_word_of_the_faq() -> None:
    known = {word for row in HANDBOOK for word in words(row["text"])}
    asked = {word for row in FAQ for word in words(row["question"] + " " + row["answer"])}
    assert asked <= known
