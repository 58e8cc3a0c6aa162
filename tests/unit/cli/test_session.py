from __future__ import annotations

from pathlib import Path

import pytest

from appliance.api import types as t
from appliance.cli.session import Session, confirmed
from appliance.kernel.paths import StatePaths
from appliance.kernel.terminal import size_text, table, when


def test_columns_are_as_wide_as_their_widest_cell_without_trailing_space() -> None:
    text = table(("NAME", "N"), [("a", "1"), ("longer", "22")], empty="none")
    assert text.splitlines() == ["NAME    N", "a       1", "longer  22"]


def test_an_empty_table_says_what_to_do() -> None:
    assert table(("NAME",), [], empty="Nothing yet.") == "Nothing yet."


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_sizes_are_binary(size: int, text: str) -> None:
    assert size_text(size) == text


def test_times_lose_their_fraction_and_absent_ones_are_a_dash() -> None:
    assert when("2026-03-01T10:30:15.000042Z") == "2026-03-01 10:30:15"
    assert when("") == "-"


def test_without_a_terminal_nothing_is_confirmed_but_by_the_option() -> None:
    assert not confirmed("Really?", yes=False)
    assert confirmed("Really?", yes=True)


@pytest.mark.parametrize(("as_json", "text"), [(True, '{"user":"a","uid":1,"roles":[]}\n'), (False, "for people\n")])
def test_an_answer_is_json_or_text_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool, text: str
) -> None:
    session = Session(paths=StatePaths(tmp_path), as_json=as_json)
    session.show(t.WhoAmI(user="a", uid=1, roles=()), lambda: "for people")
    session.say("for eyes only")
    assert capsys.readouterr() == (text, "for eyes only\n")


def test_what_a_model_wrote_moves_no_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(paths=StatePaths(tmp_path), as_json=False)
    session.show(None, lambda: "first\n\x1b[2Jsecond")
    session.say("\x1b]0;title\x07")
    captured = capsys.readouterr()
    assert captured.out == "first\n\N{REPLACEMENT CHARACTER}[2Jsecond\n"
    assert "\x1b" not in captured.err
