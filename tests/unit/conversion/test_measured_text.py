"""Rows as tokens: whole texts, and of conversations the last answer with its end and nothing after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.conversion.measured_text import load_tokenizer, token_rows
from appliance.kernel.errors import BadInput, IntegrityFailure
from tests.unit.conversion.conftest import Converted

ASKED = {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "Because."}


@pytest.fixture
def tokenizer(converted: Converted) -> Any:
    return load_tokenizer(converted.model)


def rows(tokenizer: Any, file: Path, *documents: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is read and what is scored of each row."""
    file.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return [
        (tokenizer.decode(one.tokens[: one.scored_from]), tokenizer.decode(one.tokens[one.scored_from :]))
        for one in token_rows(tokenizer, file)
    ]


def test_the_last_answer_is_scored_with_its_end(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|end|>{{ '\\n' }}")
    found = rows(tokenizer, tmp_path / "a", {"messages": [ASKED, SAID]}, {"messages": [ASKED], "chosen": "So."})
    assert found == [
        ("<|user|>Why?<|end|>\n<|assistant|>", "Because.<|end|>"),
        ("<|user|>Why?<|end|>\n<|assistant|>", "So.<|end|>"),
    ]


def test_a_text_is_scored_from_its_second_token(tokenizer: Any, tmp_path: Path) -> None:
    ((first, rest), _) = rows(
        tokenizer, tmp_path / "a", {"text": "The quick brown fox"}, {"prompt": "a b", "completion": " c"}
    )
    assert first + rest == "The quick brown fox"
    assert len(tokenizer.encode(first)) == 1


def test_nothing_to_measure_and_broken_rows_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"conversion\.no_text"):
        token_rows(tokenizer, tmp_path / "gone")
    (tmp_path / "b").write_text("{")
    with pytest.raises(IntegrityFailure, match="line 1 of b is not a row"):
        token_rows(tokenizer, tmp_path / "b")
