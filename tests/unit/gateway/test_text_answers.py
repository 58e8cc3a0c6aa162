from __future__ import annotations

import json

import pytest

from appliance.engine.frames import TokenLogprob
from appliance.gateway.answers import Choice
from appliance.gateway.text_answers import TextForm
from tests.unit.gateway.answer_pieces import IDENTITY, USAGE, grown, said, streamed, token


def test_text_offsets_go_on_from_piece_to_piece() -> None:
    form, choice = TextForm(IDENTITY), Choice()
    assert form.opening(0) == b""
    offsets: list[int] = []
    for texts in (("ab", "c"), ("d",)):
        piece = said("".join(texts), *(token(text, -1.0) for text in texts))
        document = json.loads(form.piece(0, choice, piece).removeprefix(b"data: "))
        offsets += document["choices"][0]["logprobs"]["text_offset"]
    assert offsets == [0, 2, 3]


def test_a_stream_ends_with_reason_and_counts() -> None:
    *events, last, counted, done, end = streamed(TextForm(IDENTITY, counted=True), said("a")).split(b"\n\n")
    assert (len(events), done, end) == (1, b"data: [DONE]", b"")
    assert json.loads(last[6:])["choices"][0]["finish_reason"] == "stop"
    assert json.loads(last[6:])["usage"] is None
    assert json.loads(counted[6:])["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("logprobs", [[], [token("ab", -1.0)]])
def test_a_whole_text_answer(logprobs: list[TokenLogprob]) -> None:
    answer = json.loads(TextForm(IDENTITY).whole([grown(said("ab", *logprobs))], USAGE))
    choice = answer["choices"][0]
    assert (answer["object"], choice["text"], choice["finish_reason"]) == ("text_completion", "ab", "stop")
    assert (choice["logprobs"] is None) == (not logprobs)
