from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.answer import Answer, Parts
from appliance.engine.dialect import (
    HARMONY,
    HERMES,
    LLAMA,
    MAGISTRAL,
    MISTRAL,
    MISTRAL_NAMED,
    THINK,
    CallFormat,
    Dialect,
)
from appliance.engine.frames import Candidate, TokenLogprob

WEATHER = '{"name": "weather", "arguments": {"city": "P}\\"a{ris", "days": [1, {"a": 2}]}}'
TIME = '{"name":"time","arguments": \n {} }'
THINKER = Dialect(thought=THINK)


def _read(answer: Answer, data: bytes, cuts: list[int]) -> Parts:
    """Feed the bytes in pieces of these sizes."""
    parts = Parts()
    for cut in cuts:
        parts.add(answer.feed(0, data[:cut]))
        data = data[cut:]
    parts.add(answer.feed(0, data))
    parts.add(answer.flush())
    return parts


def _calls(parts: Parts) -> list[tuple[str, object]]:
    names = {piece.index: piece.name for piece in parts.calls if piece.name}
    joined = {index: "".join(p.arguments for p in parts.calls if p.index == index) for index in names}
    assert all(text == text.strip() for text in joined.values())
    return [(name, json.loads(joined[index])) for index, name in names.items()]


CUTS = st.lists(st.integers(1, 5), max_size=80)
EXPECTED = [("weather", {"city": 'P}"a{ris', "days": [1, {"a": 2}]}), ("time", {})]


def test_half_a_character_is_held_back() -> None:
    answer = Answer()
    assert [answer.feed(0, b"a\xe2\x82").text, answer.feed(0, b"\xac!").text] == ["a", "€!"]


def test_broken_utf8_is_replaced_at_the_end() -> None:
    answer = Answer()
    assert answer.feed(0, b"a\xe2").text == "a"
    assert answer.flush().text == "\ufffd"


@given(CUTS)
def test_calls_in_text_are_found_however_they_are_cut(cuts: list[int]) -> None:
    text = f"Let me € see.<tool_call>\n{WEATHER}\n</tool_call>\n<tool_call>{TIME}</tool_call>"
    parts = _read(Answer(dialect=Dialect(calls=HERMES), calls=True), text.encode(), cuts)
    assert parts.text == "Let me € see."
    assert _calls(parts) == EXPECTED


@given(CUTS)
def test_a_listed_call_format(cuts: list[int]) -> None:
    text = f"[TOOL_CALLS][{WEATHER}, {TIME}]"
    parts = _read(Answer(dialect=Dialect(calls=MISTRAL), calls=True), text.encode(), cuts)
    assert parts.text == ""
    assert _calls(parts) == EXPECTED


@given(CUTS)
def test_a_call_whose_name_stands_before_its_json(cuts: list[int]) -> None:
    calls = [f"[TOOL_CALLS]{name}[ARGS]{json.dumps(arguments)}" for name, arguments in EXPECTED]
    parts = _read(Answer(dialect=Dialect(calls=MISTRAL_NAMED), calls=True), f"Well. {''.join(calls)}".encode(), cuts)
    assert (parts.text, _calls(parts)) == ("Well. ", EXPECTED)


def test_a_call_whose_marks_are_tokens_has_a_name_before_its_json() -> None:
    answer = Answer(dialect=Dialect(calls=MISTRAL_NAMED), calls=True, marks={9: "[TOOL_CALLS]"})
    parts = Parts()
    for name, arguments in EXPECTED:
        for token, data in ((9, b""), (1, name.encode()), (8, b""), (2, json.dumps(arguments).encode())):
            parts.add(answer.feed(token, data))
    assert (parts.text, _calls(parts)) == ("", EXPECTED)


@given(CUTS)
def test_a_bare_call_is_known_by_its_brace(cuts: list[int]) -> None:
    text = " " + WEATHER.replace("arguments", "parameters")
    parts = _read(Answer(dialect=Dialect(calls=LLAMA), calls=True), text.encode(), cuts)
    assert (parts.text, _calls(parts)) == ("", EXPECTED[:1])
    parts = _read(Answer(dialect=Dialect(calls=LLAMA), calls=True), b'No {"name"} here', cuts)
    assert (parts.text, parts.calls) == ('No {"name"} here', [])


@given(CUTS)
def test_reasoning_is_kept_apart(cuts: list[int]) -> None:
    text = b"<think>\nhmm <b>\n</think>\n\nYes.</think>"
    parts = _read(Answer(dialect=THINKER), text, cuts)
    assert (parts.reasoning, parts.text) == ("hmm <b>\n", "Yes.</think>")
    opened = Answer(dialect=THINKER, thinking=True)
    assert opened.thinking
    parts = _read(opened, text.removeprefix(b"<think>"), cuts)
    assert (parts.reasoning, parts.text) == ("hmm <b>\n", "Yes.</think>")
    assert not opened.thinking


@given(CUTS)
def test_magistrals_marks(cuts: list[int]) -> None:
    text = f"[THINK]hm [x]</think>[/THINK]Yes [TOOL_CALLS][{WEATHER}]"
    parts = _read(Answer(dialect=Dialect(calls=MISTRAL, thought=MAGISTRAL), calls=True), text.encode(), cuts)
    assert (parts.reasoning, parts.text, _calls(parts)) == ("hm [x]</think>", "Yes ", EXPECTED[:1])


@pytest.mark.parametrize("form", [HERMES, MISTRAL, MISTRAL_NAMED])
@given(cuts=CUTS)
def test_a_document_may_hold_what_looks_like_a_mark(form: CallFormat, cuts: list[int]) -> None:
    spoken = Dialect(calls=form, thought=THINK)
    document = f' ["<think>", "{form.begin}", "</think>"]'
    for thought in ("", "<think>hm</think>"):
        parts = _read(Answer(dialect=spoken, calls=True, shaped=True), f"{thought}{document}".encode(), cuts)
        assert (json.loads(parts.text), parts.reasoning, parts.calls) == (json.loads(document), thought[7:9], [])
        call = f"[{WEATHER}]" if form.listed else WEATHER + form.end
        if form.args:
            call = f"{EXPECTED[0][0]}{form.args}{json.dumps(EXPECTED[0][1])}"
        parts = _read(Answer(dialect=spoken, calls=True, shaped=True), f"{thought}{form.begin}{call}".encode(), cuts)
        assert (parts.text, parts.reasoning, _calls(parts)) == ("", thought[7:9], EXPECTED[:1])


def test_marks_that_are_tokens_count_as_tokens_alone() -> None:
    marks = {7: "<think>", 8: "</think>", 9: "<tool_call>", 10: "</tool_call>"}
    answer = Answer(dialect=THINKER, calls=True, marks=marks)
    parts = Parts()
    for token, data in (
        (7, b""),
        (1, b"a</think>b"),
        (8, b""),
        (2, b"<tool_call>c"),
        (9, b""),
        (3, TIME.encode()),
        (10, b""),
    ):
        parts.add(answer.feed(token, data))
    parts.add(answer.feed(4, b" d"))
    parts.add(answer.flush())
    assert (parts.reasoning, parts.text) == ("a</think>b", "<tool_call>cd")
    assert _calls(parts) == [("time", {})]


def test_stop_strings_end_what_is_said_and_cut_no_call() -> None:
    text = f"<think>city</think>hello city<tool_call>{WEATHER}</tool_call>"
    answer = Answer(("city",), dialect=THINKER, calls=True)
    parts = _read(answer, text.encode()[:-40], [])
    assert (parts.reasoning, parts.text, answer.stopped) == ("city", "hello ", True)
    answer = Answer(("city",), dialect=THINKER, calls=True)
    parts = _read(answer, f"<tool_call>{WEATHER}</tool_call>".encode(), [])
    assert not answer.stopped
    assert _calls(parts) == EXPECTED[:1]


def test_marks_are_plain_text_where_nobody_listens() -> None:
    text = f"<think>a</think><tool_call>{TIME}</tool_call>"
    assert _read(Answer(), text.encode(), [3, 4]).text == text


@pytest.mark.parametrize("noise", ['{"name": 5, "arguments": {}}', "nothing", '{"arguments": {}}' + "x" * 3000])
def test_what_is_no_call_gives_none(noise: str) -> None:
    answer = Answer(dialect=Dialect(calls=HERMES), calls=True)
    assert _read(answer, f"<tool_call>{noise}</tool_call>".encode(), []).calls == []


def _told(answer: Answer, pieces: list[tuple[int, bytes]]) -> tuple[str, list[tuple[bytes, int]]]:
    """The text of tokens, and the bytes and offset of each entry; an entry comes with the first of its characters."""
    whole = Parts()
    for token, data in pieces:
        entry = TokenLogprob(chosen=Candidate(token=token, text="", data=data, logprob=-1.0))
        parts = answer.feed(token, data, entry)
        assert all(len(whole.text) <= told.offset < len(whole.text + parts.text) for told in parts.logprobs)
        whole.add(parts)
        if answer.stopped:
            break
    whole.add(answer.flush())
    return whole.text, [(told.chosen.data, told.offset) for told in whole.logprobs]


def _in_pieces(text: str, cuts: list[int]) -> list[tuple[int, bytes]]:
    data, pieces = text.encode(), []
    for cut in cuts:
        pieces.append((0, data[:cut]))
        data = data[cut:]
    return [piece for piece in [*pieces, (0, data)] if piece[1]]


@given(st.text("ab€😀\n", max_size=20), CUTS, st.lists(st.text("ab€", min_size=1, max_size=3), max_size=2))
def test_every_token_of_the_text_is_told_with_its_place(text: str, cuts: list[int], stops: list[str]) -> None:
    pieces = _in_pieces(text, cuts)
    said, told = _told(Answer(tuple(stops)), pieces)
    expected, begun = [], 0
    for _, data in pieces:
        if begun < len(said.encode()):
            expected.append((data, len(text.encode()[:begun].decode(errors="ignore"))))
        begun += len(data)
    assert told == expected


@given(CUTS)
def test_tokens_of_marks_thoughts_and_calls_are_not_told(cuts: list[int]) -> None:
    text = f"<think>hm €</think>\n\n€ yes<tool_call>{TIME}</tool_call> <tool"
    answer = Answer(("never",), dialect=THINKER, calls=True)
    said, told = _told(answer, _in_pieces(text, cuts))
    assert said == "€ yes<tool"
    data = text.encode()
    places: dict[int, int] = {}  # byte of what is said -> its character there
    for part, place in (("€ yes", 0), ("<tool", 5)):
        start = data.rindex(part.encode())
        for number, letter in enumerate(part):
            for _ in letter.encode():
                places[start] = place + number
                start += 1
    expected, begun = [], 0
    for _, piece in _in_pieces(text, cuts):
        found = next((places[at] for at in range(begun, begun + len(piece)) if at in places), None)
        expected += [] if found is None else [(piece, found)]
        begun += len(piece)
    assert told == expected


def test_a_token_of_two_parts_and_half_characters_have_one_place() -> None:
    pieces = [
        (0, b"x<"),
        (0, b"to\xe2"),
        (0, b"\x82"),
        (0, b"\xac!"),
        (0, b"\xf0\x9f"),
        (0, b"z"),
        (0, b""),
        (0, b"ci"),
    ]
    said, told = _told(Answer(("city",), calls=True, dialect=Dialect()), pieces)
    assert said == "x<to€!\ufffdzci"
    assert told == [
        (b"x<", 0),
        (b"to\xe2", 2),
        (b"\x82", 4),
        (b"\xac!", 4),
        (b"\xf0\x9f", 6),
        (b"z", 7),
        (b"ci", 8),
    ]


@pytest.mark.parametrize("broken", [b"\xed\xb6", b"\xe0", b"\xf0\x9f\x98"])
@pytest.mark.parametrize("after", [b"z", b"\x80z", b"\xc3\xa9", b"\xef\xbf\xbd"])
def test_after_bytes_that_are_no_character_places_are_right(broken: bytes, after: bytes) -> None:
    said, told = _told(Answer(), [(0, b"a" + broken), (0, after), (0, b"b")])
    assert said == (b"a" + broken + after + b"b").decode(errors="replace")
    tails = [(data, said.rindex(data.decode())) for data in (after, b"b") if data[0] != 0x80]
    assert told == [(b"a" + broken, 0), *([told[1]] if after[0] == 0x80 else []), *tails]


def test_marks_that_are_tokens_are_not_told() -> None:
    marks = {8: "</think>", 9: "<tool_call>", 10: "</tool_call>"}
    answer = Answer(dialect=THINKER, calls=True, thinking=True, marks=marks)
    pieces = [(1, b"hm"), (8, b""), (2, b"\n\n"), (3, b" a"), (9, b""), (4, TIME.encode()), (10, b""), (5, b"b")]
    assert _told(answer, pieces) == ("ab", [(b" a", 0), (b"b", 1)])


CHANNEL, MESSAGE, END, START = (11, b"<|channel|>"), (12, b"<|message|>"), (13, b""), (14, b"<|start|>")
"""as llama.cpp writes these tokens"""
CHANNELS = {11: "<|channel|>", 12: "<|message|>", 13: "<|end|>", 14: "<|start|>"}


def test_the_channels_of_gpt_oss() -> None:
    pieces = [CHANNEL, (1, b"analysis"), MESSAGE, (2, b"hm \xe2"), (3, b"\x82\xac <|end|>"), END, START]
    pieces += [(4, b"assistant"), CHANNEL, (5, b"comment"), (6, b"ary to=x"), MESSAGE, (7, b"{}"), END, START]
    pieces += [(4, b"assistant"), CHANNEL, (8, b"fi"), (9, b"nal"), MESSAGE, (2, b"Yes"), (3, b" and no")]
    answer = Answer(dialect=Dialect(channels=HARMONY), marks=CHANNELS)
    parts, thoughts = Parts(), []
    for token, data in pieces:
        parts.add(answer.feed(token, data))
        thoughts.append(answer.thinking)
    parts.add(answer.flush())
    assert (parts.reasoning, parts.text) == ("hm € <|end|>{}", "Yes and no")
    assert thoughts.count(True) == 5  # from each message mark to the end of its message
    told = _told(Answer(dialect=Dialect(channels=HARMONY), marks=CHANNELS), pieces)
    assert told == ("Yes and no", [(b"Yes", 0), (b" and no", 3)])


def test_calls_in_the_final_channel() -> None:
    answer = Answer(dialect=Dialect(channels=HARMONY), calls=True, marks=CHANNELS)
    parts = Parts()
    for token, data in (CHANNEL, (1, b"final"), MESSAGE, (2, f"<tool_call>{TIME}</tool_call>".encode())):
        parts.add(answer.feed(token, data))
    parts.add(answer.flush())
    assert (parts.text, _calls(parts)) == ("", [("time", {})])
