"""Held-out rows become questions with one expected answer each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.evaluation.heldout import read_examples
from appliance.kernel.errors import BadInput, IntegrityFailure

USER = {"role": "user", "content": "Where?"}
ANSWER = {"role": "assistant", "content": "Here."}


def write(directory: Path, *lines: object) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (directory / "heldout.jsonl").write_text(text)
    return directory


def test_the_last_answer_is_expected_and_the_rest_is_context(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, USER, ANSWER, {"role": "user", "content": "Why?"}, ANSWER]
    (example,) = read_examples(write(tmp_path, {"messages": turns}))
    assert [message.role for message in example.context] == ["system", "user", "assistant", "user"]
    assert (example.question, example.expected) == ("Why?", "Here.")


def test_an_empty_or_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"evaluation\.no_heldout"):
        read_examples(tmp_path)
    with pytest.raises(BadInput, match=r"evaluation\.no_heldout"):
        read_examples(write(tmp_path))


@pytest.mark.parametrize("row", [{"text": "plain"}, {"messages": [USER]}, {"messages": [ANSWER]}, {"messages": []}])
def test_a_row_without_question_and_answer_is_refused_by_number(tmp_path: Path, row: object) -> None:
    with pytest.raises(BadInput, match=r"evaluation\.form: Line 2 "):
        read_examples(write(tmp_path, {"messages": [USER, ANSWER]}, row))


@pytest.mark.parametrize("line", ["{", '{"messages": [1]}', '{"messages": [{"role": "user"}]}'])
def test_a_broken_line_is_an_integrity_failure(tmp_path: Path, line: str) -> None:
    with pytest.raises(IntegrityFailure, match=r"evaluation\.row: Line 1 "):
        read_examples(write(tmp_path, line))
