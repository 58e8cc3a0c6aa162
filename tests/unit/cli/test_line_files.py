from __future__ import annotations

from pathlib import Path

import pytest

from appliance.cli.line_files import read_labels, read_lines
from appliance.kernel.errors import BadInput


@pytest.mark.parametrize("data", ["card\n\n place \n", '["card",\n "place"]\n', "\ufeffcard\nplace"])
def test_labels_stand_one_a_line_or_in_an_array(tmp_path: Path, data: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_text(data, encoding="utf-8")
    assert read_labels(file) == ("card", "place")


def test_lines_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("one?\n\n  two?\n", encoding="utf-8")
    assert read_lines(file, what="a file of questions") == ("one?", "two?")


@pytest.mark.parametrize(
    ("name", "data", "message", "hint"),
    [
        ("absent.txt", None, "There is no file {file}.", "Name a text file with one label a line, or a JSON array."),
        ("", None, "{file} is a folder.", "Name a text file with one label a line, or a JSON array."),
        ("latin.txt", "größe\n".encode("latin-1"), "{file} is not UTF-8.", "Save it as UTF-8."),
        ("broken.txt", b"[1, 2]\n", "{file} is no JSON array of labels", "Write one label a line"),
    ],
)
def test_a_file_of_labels_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, data: bytes | None, message: str, hint: str
) -> None:
    file = tmp_path / name
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(BadInput) as refused:
        read_labels(file)
    assert refused.value.message.startswith(message.format(file=file))
    assert refused.value.hint.startswith(hint)
    assert "Errno" not in refused.value.message
