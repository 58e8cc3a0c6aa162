from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, NotFound
from appliance.kernel.plain_yaml import parse_plain_yaml, read_plain_yaml


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = b"a: 1e-3\nb: no\nc: 2026-01-01\nd: 010\ne: true\nf:\ng: -1.5\nh: '7'\ni: 12:30:00\nj: ~\nk: +3\nl: .5\n"
    assert parse_plain_yaml(text, name="x").value == {
        "a": 0.001,
        "b": "no",
        "c": "2026-01-01",
        "d": 10,
        "e": True,
        "f": None,
        "g": -1.5,
        "h": "7",
        "i": "12:30:00",
        "j": None,
        "k": 3,
        "l": 0.5,
    }


def test_every_path_has_its_line() -> None:
    document = parse_plain_yaml(b"# note\na:\n  b: 1\n  c:\n    - x\n    - y: 2\n", name="x.yaml")
    assert [document.line("a"), document.line("a", "b"), document.line("a", "c", 1, "y")] == [2, 3, 6]
    assert document.line("a", "unknown") == 2
    assert document.where("a", "b") == "x.yaml, line 3"
    assert document.before("a", "b") == "x.yaml, line 3: "


def test_a_part_keeps_its_name_and_lines() -> None:
    part = parse_plain_yaml(b"# note\na:\n  b: 1\n  c: {d: 2}\n", name="x.yaml").part("a")
    assert part.value == {"b": 1, "c": {"d": 2}}
    assert part.where("c", "d") == "x.yaml, line 4"
    assert part.where("missing") == "x.yaml, line 2"


def test_what_was_told_without_a_file_has_no_line() -> None:
    assert parse_plain_yaml(b'{"a": 1}', name="").before("a") == ""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"a: &x 1\nb: 2\n", "line 1: anchors"),
        (b"a: 1\nb: *x\n", "line 2"),
        (b"a: !!python/object:os.system x\n", "line 1: the tag"),
        (b"a: 1\na: 2\n", "line 2: a is given twice"),
        (b"a: [1\nb: 2\n", "line 2"),
        (b"a: \xff\n", "line 1: byte 3 is not UTF-8"),
        (b"? [1, 2]\n: 3\n", "line 1: a key must be a word"),
        (b"[" * 100 + b"]" * 100, "nested deeper"),
        (b"a: 1e999\n", "too large"),
        (b"a: 1\n---\nb: 2\n", "line 2"),
    ],
)
def test_what_is_no_plain_document_is_refused_by_line(text: bytes, named: str) -> None:
    with pytest.raises(BadInput, match=named) as refused:
        parse_plain_yaml(text, name="x.yaml")
    assert refused.value.code == "yaml.invalid"


def test_a_missing_file_and_a_large_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_plain_yaml(tmp_path / "none.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(BadInput, match="larger than 1 MiB"):
        read_plain_yaml(tmp_path / "large.yaml")


def test_an_empty_file_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_bytes(b"")
    assert read_plain_yaml(tmp_path / "empty.yaml").value is None
