"""Answer documents in OpenAI's shapes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from appliance.engine.frames import Candidate, TokenLogprob
from appliance.gateway.answers import ChatForm, Choice, Identity, PromptDetails, TextForm, Usage

IDENTITY = Identity(id="x-1", created=5, model="m", system_fingerprint="r1-ab")
USAGE = Usage(
    prompt_tokens=1, completion_tokens=2, total_tokens=3, prompt_tokens_details=PromptDetails(cached_tokens=0)
)


def token(text: str, logprob: float) -> TokenLogprob:
    candidate = Candidate(token=1, text=text, data=text.encode(), logprob=logprob)
    other = Candidate(token=2, text="?", data=b"?", logprob=-math.inf)
    return TokenLogprob(chosen=candidate, top=(candidate, other))


def parse(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    document: dict[str, Any] = json.loads(event[6:])
    return document


def test_a_chat_stream_has_role_text_reason_usage() -> None:
    form, choice = ChatForm(IDENTITY), Choice()
    first = parse(form.opening(0))
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert (first["object"], first["model"], first["system_fingerprint"]) == ("chat.completion.chunk", "m", "r1-ab")
    assert parse(form.piece(1, choice, 'a\n"é', ()))["choices"][0]["delta"] == {"content": 'a\n"é'}
    last = parse(form.closing(0, "length"))["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({}, "length")
    counted = parse(form.usage(USAGE))
    assert (counted["choices"], counted["usage"]["total_tokens"]) == ([], 3)


def test_chat_logprobs_have_bytes_and_no_infinity() -> None:
    piece = parse(ChatForm(IDENTITY).piece(0, Choice(), "é", [token("é", -0.5)]))
    entry = piece["choices"][0]["logprobs"]["content"][0]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("é", -0.5, [195, 169])
    assert entry["top_logprobs"][1]["logprob"] == -9999.0


def test_a_whole_chat_answer() -> None:
    choices = [Choice(texts=["a", "b"], reason="stop"), Choice(texts=[], reason="length")]
    answer = json.loads(ChatForm(IDENTITY).whole(choices, USAGE))
    assert answer["object"] == "chat.completion"
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["ab", ""]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


def test_text_offsets_go_on_from_piece_to_piece() -> None:
    form, choice = TextForm(IDENTITY), Choice()
    assert form.opening(0) == b""
    offsets: list[int] = []
    for texts in (("ab", "c"), ("d",)):
        piece = parse(form.piece(0, choice, "".join(texts), [token(text, -1.0) for text in texts]))
        offsets += piece["choices"][0]["logprobs"]["text_offset"]
    assert offsets == [0, 2, 3]


@pytest.mark.parametrize("logprobs", [[], [token("ab", -1.0)]])
def test_a_whole_text_answer(logprobs: list[TokenLogprob]) -> None:
    answer = json.loads(TextForm(IDENTITY).whole([Choice(texts=["ab"], logprobs=logprobs, reason="stop")], USAGE))
    choice = answer["choices"][0]
    assert (answer["object"], choice["text"], choice["finish_reason"]) == ("text_completion", "ab", "stop")
    assert (choice["logprobs"] is None) == (not logprobs)
