from __future__ import annotations

import json

import pytest

from appliance.engine.frames import TokenLogprob
from appliance.gateway.answers import Choice
from appliance.gateway.text_answers import TextForm
from tests.unit.gateway.answer_pieces import IDENTITY, USAGE, grown, half, said, streamed, token


def test_text_offsets_are_characters_of_prompt_and_text() -> None:
    form, choice = TextForm(IDENTITY, measured=True), Choice(echoed=7)
    assert form.opening(0) == b""
    piece = said("€d", half(b"\xe2", -1.0), half(b"\x82\xac", -1.0), token("d", -1.0, offset=1))
    choice.take(piece)
    for document in (form.piece(0, choice, piece).removeprefix(b"data: "), form.whole([choice], USAGE)):
        logprobs = json.loads(document)["choices"][0]["logprobs"]
        assert (logprobs["text_offset"], logprobs["tokens"]) == ([7, 7, 8], ["\ufffd", "\ufffd\ufffd", "d"])


def test_a_stream_ends_with_reason_and_counts() -> None:
    *events, last, counted, done, end = streamed(TextForm(IDENTITY, counted=True), said("a")).split(b"\n\n")
    assert (len(events), done, end) == (1, b"data: [DONE]", b"")
    assert json.loads(last[6:])["choices"][0]["finish_reason"] == "stop"
    assert json.loads(last[6:])["usage"] is None
    assert json.loads(counted[6:])["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("logprobs", [[], [token("ab", -1.0)]])
def test_a_whole_text_answer(logprobs: list[TokenLogprob]) -> None:
    answer = json.loads(TextForm(IDENTITY, measured=bool(logprobs)).whole([grown(said("ab", *logprobs))], USAGE))
    choice = answer["choices"][0]
    assert (answer["object"], choice["text"], choice["finish_reason"]) == ("text_completion", "ab", "stop")
    assert (choice["logprobs"] is None) == (not logprobs)


def test_an_answer_without_text_has_empty_lists_where_they_were_asked_for() -> None:
    answer = json.loads(TextForm(IDENTITY, measured=True).whole([grown()], USAGE))
    assert answer["choices"][0]["logprobs"]["text_offset"] == []
