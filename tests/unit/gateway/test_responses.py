"""What clients may send to /v1/responses, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from appliance.engine.frames import Asked, Call, Message, Sampling
from appliance.gateway.plan import Plan
from appliance.gateway.refusals import Refusal
from appliance.gateway.responses import parse_response

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def response(**more: Any) -> Plan:
    return parse_response(json.dumps({"model": "m", "input": "hi"} | more).encode())


def test_a_text_and_instructions() -> None:
    plan = response(instructions="be brief", max_output_tokens=5, temperature=0, top_p=0.5)
    assert plan.queries[0].messages == (Message(role="system", content="be brief"), Message(role="user", content="hi"))
    assert plan.sampling == Sampling(max_tokens=5, temperature=0, top_p=0.5)
    assert plan.repeated["instructions"] == "be brief"


def test_items_become_turns() -> None:
    plan = response(
        input=[
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "weather"}, {"type": "input_text", "text": "?"}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "wait"}]},
            {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "b", "name": "clock", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "rain"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "9:00"}]},
        ]
    )
    calls = (Call(id="a", name="weather", arguments="{}"), Call(id="b", name="clock", arguments="{}"))
    assert plan.queries[0].messages == (
        Message(role="user", content="weather?"),
        Message(role="assistant", content="wait", calls=calls),
        Message(role="tool", content="rain", call="a", name="weather"),
        Message(role="tool", content="9:00", call="b", name="clock"),
    )


def test_shape_and_tools() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    wanted = response(text={"format": form}).asked.schema
    assert wanted is not None
    assert json.loads(wanted) == schema
    asked = response(tools=[TOOL], tool_choice={"type": "function", "name": "weather"}, parallel_tool_calls=False).asked
    assert ([tool.name for tool in asked.tools], asked.allowed, asked.parallel) == (["weather"], ("weather",), False)
    assert asked.required
    assert response(tools=[TOOL], tool_choice="none").asked == Asked()
    assert response(reasoning={"effort": "none"}).asked == Asked(reasoning=False)
    assert response(text={"format": {"type": "json_object"}}).asked.schema == '{"type":"object"}'
    beside = response(tools=[TOOL], text={"format": form}).asked
    assert (beside.schema, len(beside.tools)) == (wanted, 1)


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_some_of_the_functions_may_be_called_and_all_are_explained(mode: str) -> None:
    choice = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "clock"}]}
    plan = response(tools=[TOOL, TOOL | {"name": "clock"}], tool_choice=choice)
    assert ([tool.name for tool in plan.asked.tools], plan.asked.allowed) == (["weather", "clock"], ("clock",))
    assert plan.asked.required == (mode == "required")
    assert json.loads(msgspec.json.encode(plan.repeated["tool_choice"])) == choice


def test_log_probabilities_by_either_field() -> None:
    assert response().sampling.logprobs is None
    assert response(include=["message.output_text.logprobs"]).sampling.logprobs == 0
    assert response(top_logprobs=3).sampling.logprobs == 3


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported"),
        ({"conversation": "c"}, "conversation", "unsupported"),
        ({"background": True}, "background", "unsupported"),
        ({"truncation": "auto"}, "truncation", "unsupported"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "invalid_request_error"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}},
            "tool_choice.name",
            "invalid_request_error",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "x"}]}},
            "tool_choice.mode",
            "invalid_request_error",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto"}},
            "tool_choice.tools",
            "invalid_request_error",
        ),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "x"}]},
            },
            "tool_choice.tools[0].name",
            "invalid_request_error",
        ),
        ({"text": {"format": {"type": "grammar"}}}, "text.format", "unsupported"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}},
            "text.format.schema.not",
            "unsupported_schema",
        ),
        ({"tool_choice": "required"}, "tool_choice", "invalid_request_error"),
        ({"input": []}, "input", "invalid_request_error"),
        ({"input": [{"type": "reasoning"}]}, "input", "invalid_request_error"),
        ({"input": [{"type": "item_reference"}]}, "input[0].type", "invalid_request_error"),
        ({"input": [{"content": "x"}]}, "input[0].role", "invalid_request_error"),
        ({"input": [{"role": "user"}]}, "input[0].content", "invalid_request_error"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
            "unsupported",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "a", "name": "x"}]},
            "input[0].arguments",
            "invalid_request_error",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "a", "output": "x"}]},
            "input[0].call_id",
            "invalid_request_error",
        ),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_request_error"),
    ],
)
def test_refusals(more: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        response(**more)
    assert (caught.value.param, caught.value.code) == (param, code)
