from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.detokenise import TextStream


def _pieces(data: bytes, cuts: list[int], stops: tuple[str, ...]) -> tuple[list[str], bool]:
    stream, pieces = TextStream(stops), []
    for cut in cuts:
        pieces.append(stream.feed(data[:cut]))
        data = data[cut:]
    pieces.append(stream.feed(data))
    pieces.append(stream.flush())
    return pieces, stream.stopped


def test_half_a_character_is_held_back() -> None:
    stream = TextStream()
    assert [stream.feed(b"a\xe2\x82"), stream.feed(b"\xac!")] == ["a", "€!"]


def test_broken_utf8_is_replaced_at_the_end() -> None:
    stream = TextStream()
    assert stream.feed(b"a\xe2") == "a"
    assert stream.flush() == "\ufffd"


def test_stop_string_across_tokens_never_shows() -> None:
    stream = TextStream(("END",))
    assert [stream.feed(part) for part in (b"x E", b"N", b"D y")] == ["x ", "", ""]
    assert stream.stopped
    assert stream.feed(b"more") == ""
    assert stream.flush() == ""


def test_false_alarm_is_released() -> None:
    stream = TextStream(("END",))
    assert [stream.feed(part) for part in (b"EN", b"EM")] == ["", "EN" + "EM"]
    assert stream.feed(b"E") == ""
    assert stream.flush() == "E"


def test_earliest_of_several_stops_wins() -> None:
    stream = TextStream(("b", "ab"))
    assert stream.feed(b"xab") == "x"


def test_a_shorter_stop_inside_a_longer_one_is_complete_first() -> None:
    assert TextStream(("abc", "b")).feed(b"abc") == "a"


@given(st.text("abc€"), st.lists(st.integers(0, 3), max_size=30), st.lists(st.text("abc€", min_size=1), max_size=3))
def test_any_cutting_gives_the_same_answer(text: str, cuts: list[int], stops: list[str]) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    pieces, stopped = _pieces(text.encode(), cuts, tuple(stops))
    assert stopped == bool(ends)
    assert "".join(pieces) == (text[: min(ends)[1]] if ends else text)
