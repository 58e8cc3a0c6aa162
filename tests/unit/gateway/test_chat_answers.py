from __future__ import annotations

import json
from typing import Any

from appliance.gateway.answers import Choice
from appliance.gateway.chat_answers import ChatForm
from appliance.gateway.refusals import defect
from tests.unit.gateway.answer_pieces import CALLS, IDENTITY, THINK, USAGE, grown, said, streamed, token


def parse(events: bytes) -> list[dict[str, Any]]:
    lines = events.decode().split("\n\n")
    assert lines.pop() == ""
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_stream_has_role_text_reason_usage() -> None:
    first, text, last, counted = parse(streamed(ChatForm(IDENTITY, counted=True), said('a\n"é'), reason="length"))
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert (first["object"], first["model"], first["system_fingerprint"]) == ("chat.completion.chunk", "m", "r1-ab")
    assert text["choices"][0]["delta"] == {"content": 'a\n"é'}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "length")
    assert (counted["choices"], counted["usage"]["total_tokens"]) == ([], 3)
    assert [event["usage"] for event in (first, text, last)] == [None] * 3
    assert all("usage" not in event for event in parse(streamed(ChatForm(IDENTITY), said("a"))))


def test_log_probabilities_have_bytes_and_no_infinity() -> None:
    _, piece, _ = parse(streamed(ChatForm(IDENTITY), said("é", token("é", -0.5))))
    entry = piece["choices"][0]["logprobs"]["content"][0]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("é", -0.5, [195, 169])
    assert entry["top_logprobs"][1]["logprob"] == -9999.0


def test_what_is_no_text_has_no_log_probabilities() -> None:
    pieces = (THINK, *CALLS)
    answer = json.loads(ChatForm(IDENTITY, measured=True).whole([grown(*pieces)], USAGE))
    assert answer["choices"][0]["logprobs"] == {"content": [], "refusal": None}
    unasked = json.loads(ChatForm(IDENTITY).whole([grown(*pieces)], USAGE))
    assert unasked["choices"][0]["logprobs"] is None


def test_a_whole_answer() -> None:
    answer = json.loads(ChatForm(IDENTITY).whole([grown(said("a"), said("b")), grown(reason="length")], USAGE))
    assert answer["object"] == "chat.completion"
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["ab", ""]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]
    assert "tool_calls" not in answer["choices"][0]["message"]
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 1}


def test_calls_grow_in_a_stream_and_are_whole_in_an_answer() -> None:
    *chunks, last = parse(streamed(ChatForm(IDENTITY), THINK, *CALLS))
    assert chunks[1]["choices"][0]["delta"] == {"reasoning_content": "hm"}
    deltas = [delta for chunk in chunks[2:] for delta in chunk["choices"][0]["delta"]["tool_calls"]]
    assert [delta["index"] for delta in deltas] == [0, 0, 0, 1]
    assert [delta["function"].get("name") for delta in deltas] == ["weather", None, None, "clock"]
    assert ["id" in delta for delta in deltas] == [True, False, False, True]
    assert "".join(d["function"]["arguments"] for d in deltas if d["index"] == 0) == '{"city": "Rome"}'
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    answer = json.loads(ChatForm(IDENTITY).whole([grown(THINK, *CALLS)], USAGE))
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
    assert choice["message"]["reasoning_content"] == "hm"
    calls = choice["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "weather", "arguments": '{"city": "Rome"}'},
        {"name": "clock", "arguments": "{}"},
    ]
    assert len({call["id"] for call in calls}) == 2
    assert all(len(call["id"]) == 9 for call in calls)


def test_a_cut_call_says_so() -> None:
    assert grown(*CALLS[:2], reason="length").finish_reason == "length"
    assert Choice().finish_reason is None


def test_a_failure_is_an_event() -> None:
    assert ChatForm(IDENTITY).failure(defect()) == b"data: " + defect().document() + b"\n\n"
