from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.detokenise import StopStrings


def _pieces(text: str, cuts: list[int], stops: tuple[str, ...]) -> tuple[list[str], bool]:
    stream, pieces = StopStrings(stops), []
    for cut in cuts:
        pieces.append(stream.feed(text[:cut]))
        text = text[cut:]
    pieces.append(stream.feed(text))
    pieces.append(stream.flush())
    return pieces, stream.stopped


def test_stop_string_across_tokens_never_shows() -> None:
    stream = StopStrings(("END",))
    assert [stream.feed(part) for part in ("x E", "N", "D y")] == ["x ", "", ""]
    assert stream.stopped
    assert stream.feed("more") == ""
    assert stream.flush() == ""


def test_false_alarm_is_released() -> None:
    stream = StopStrings(("END",))
    assert [stream.feed(part) for part in ("EN", "EM")] == ["", "EN" + "EM"]
    assert stream.feed("E") == ""
    assert stream.flush() == "E"


def test_earliest_of_several_stops_wins() -> None:
    stream = StopStrings(("b", "ab"))
    assert stream.feed("xab") == "x"


def test_a_shorter_stop_inside_a_longer_one_is_complete_first() -> None:
    assert StopStrings(("abc", "b")).feed("abc") == "a"


@given(st.text("abc€"), st.lists(st.integers(0, 3), max_size=30), st.lists(st.text("abc€", min_size=1), max_size=3))
def test_any_cutting_gives_the_same_answer(text: str, cuts: list[int], stops: list[str]) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    pieces, stopped = _pieces(text, cuts, tuple(stops))
    assert stopped == bool(ends)
    assert "".join(pieces) == (text[: min(ends)[1]] if ends else text)
