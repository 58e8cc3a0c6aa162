from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engine.frames import Piece
from appliance.gateway.refusals import defect
from appliance.gateway.response_answers import ResponseForm
from appliance.gateway.responses import parse_response
from tests.unit.gateway.answer_pieces import CALLS, IDENTITY, THINK, USAGE, grown, half, names, said, streamed, token

PLAN = parse_response(b'{"model": "m", "input": "hi", "instructions": "brief", "metadata": {"a": "b"}}')


def parse(events: bytes) -> list[dict[str, Any]]:
    documents = []
    for event in events.decode().removesuffix("\n\n").split("\n\n"):
        kind, _, data = event.partition("\n")
        documents.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {documents[-1]['type']}"
    assert [document["sequence_number"] for document in documents] == list(range(len(documents)))
    return documents


def test_a_stream_of_text() -> None:
    events = parse(streamed(ResponseForm(IDENTITY, PLAN), said("a", token("a", -1.0)), said("b")))
    assert names(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[4]["logprobs"][0]["token"] == "a"
    last = events[-1]["response"]
    assert (last["status"], last["instructions"], last["metadata"]) == ("completed", "brief", {"a": "b"})
    assert last["output"][0]["content"][0]["text"] == events[6]["text"] == "ab"
    assert last["usage"]["output_tokens_details"] == {"reasoning_tokens": 1}
    assert events[0]["response"]["usage"] is None


def test_half_characters_have_entries_with_their_bytes() -> None:
    halves = half(b"\xe2", -1.0), half(b"\x82\xac", -2.0)
    events = parse(streamed(ResponseForm(IDENTITY, PLAN), said(""), said("€", *halves)))
    (delta,) = [event for event in events if event["type"] == "response.output_text.delta"]
    whole = json.loads(ResponseForm(IDENTITY, PLAN).whole([grown(said(""), said("€", *halves))], USAGE))
    for logprobs in (delta["logprobs"], whole["output"][0]["content"][0]["logprobs"]):
        assert [entry["bytes"] for entry in logprobs] == [[0xE2], [0x82, 0xAC]]


def test_each_item_closes_before_the_next() -> None:
    events = parse(streamed(ResponseForm(IDENTITY, PLAN), THINK, said("Wait."), *CALLS))
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    opened = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    closed = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert opened == closed == [0, 1, 2, 3]
    assert [item.get("arguments") for item in output[2:]] == ['{"city": "Rome"}', "{}"]
    deltas = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert deltas == ['{"city": ', '"Rome"}', "{}"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]


def test_an_empty_and_a_cut_answer() -> None:
    events = parse(streamed(ResponseForm(IDENTITY, PLAN), reason="length"))
    assert events[-1]["type"] == "response.incomplete"
    response = events[-1]["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["content"][0]["text"] == ""


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("pieces", [(THINK, said("Wait."), *CALLS), (THINK, said("Wait.")), (THINK,), CALLS, ()])
def test_the_whole_is_what_the_stream_says(pieces: tuple[Piece, ...], reason: str) -> None:
    streaming = parse(streamed(ResponseForm(IDENTITY, PLAN), *pieces, reason=reason))[-1]["response"]
    whole = json.loads(ResponseForm(IDENTITY, PLAN).whole([grown(*pieces, reason=reason)], USAGE))
    for document in (streaming, whole):
        for item in document["output"]:
            item.pop("id")
            item.pop("call_id", None)
    assert whole == streaming


def test_a_failure_ends_the_stream() -> None:
    (event,) = parse(ResponseForm(IDENTITY, PLAN).failure(defect()))
    assert (event["type"], event["response"]["error"]["code"]) == ("response.failed", "internal_error")
