from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.rows import read_rows


def test_both_forms_are_read(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text":"a"}\n\n{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"r"}]}\n')
    text, chat = read_rows(file)
    assert text.text == "a"
    assert chat.plain_messages() == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]


def test_a_missing_part_is_empty(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "heldout.jsonl") == []


@pytest.mark.parametrize("line", ["{", '{"text":1}', '{"messages":[{"role":"robot","content":"x"}]}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text":"a"}\n' + line + "\n")
    with pytest.raises(BadInput, match="line 2") as refused:
        read_rows(file)
    assert refused.value.code == "training.row_invalid"
