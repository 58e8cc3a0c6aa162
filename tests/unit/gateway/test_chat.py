"""What clients may send to /v1/chat/completions, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engine.frames import Asked, Call, Message, Sampling
from appliance.gateway.chat import parse_chat
from appliance.gateway.plan import Plan
from appliance.gateway.refusals import Refusal

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": CITY}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALL = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


def chat(**more: Any) -> Plan:
    return parse_chat(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]} | more).encode())


def document(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def test_a_bare_request_gets_neutral_sampling() -> None:
    plan = chat()
    assert plan.sampling == Sampling()
    assert plan.asked == Asked()
    assert (plan.choices, plan.stream, plan.include_usage) == (1, False, False)
    assert plan.queries[0].messages == (Message(role="user", content="hi"),)


def test_every_served_field_reaches_the_engine() -> None:
    plan = chat(
        temperature=0,
        top_p=0.5,
        top_k=40,
        min_p=0.1,
        seed=-5,
        stop=["a", "b"],
        max_tokens=3,
        max_completion_tokens=4,
        presence_penalty=-2,
        frequency_penalty=2,
        repeat_penalty=1.1,
        logit_bias={"12": -100},
        logprobs=True,
        top_logprobs=20,
        ignore_eos=True,
        stream=True,
        stream_options={"include_usage": True},
        reasoning_effort="low",
    )
    assert plan.sampling == Sampling(
        max_tokens=4,
        temperature=0,
        top_p=0.5,
        top_k=40,
        min_p=0.1,
        seed=-5,
        stop=("a", "b"),
        presence_penalty=-2,
        frequency_penalty=2,
        repeat_penalty=1.1,
        logit_bias={12: -100},
        logprobs=20,
        ignore_eos=True,
    )
    assert (plan.stream, plan.include_usage, plan.asked) == (True, True, Asked(reasoning=True))


def test_harmless_and_unknown_fields_are_ignored() -> None:
    ignored = {
        "user": "u",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "parallel_tool_calls": True,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "invented": [1],
        "stop": None,
        "n": None,
    }
    assert chat(**ignored) == chat()


def test_null_is_the_default_everywhere() -> None:
    names = ("temperature", "top_p", "max_tokens", "seed", "stream", "logprobs", "logit_bias", "presence_penalty")
    more = ("tools", "tool_choice", "response_format", "reasoning_effort", "parallel_tool_calls", "stream_options")
    assert chat(**dict.fromkeys((*names, *more))) == chat()


def test_content_parts_are_joined_and_developer_means_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    plan = chat(messages=[{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}])
    assert plan.queries[0].messages == (
        Message(role="system", content="be brief"),
        Message(role="user", content="ab"),
    )


def test_logprobs_without_top_are_the_chosen_tokens() -> None:
    assert chat(logprobs=True).sampling.logprobs == 0
    assert chat(logprobs=False).sampling.logprobs is None


def test_functions_reach_the_engine() -> None:
    plan = chat(tools=[WEATHER, CLOCK], tool_choice="required", parallel_tool_calls=False)
    weather, clock = plan.asked.tools
    assert (weather.name, weather.description, json.loads(weather.parameters)) == ("weather", "Tells it.", CITY)
    assert json.loads(clock.parameters) == {"type": "object", "properties": {}, "additionalProperties": False}
    assert (plan.asked.required, plan.asked.allowed, plan.asked.parallel) == (True, (), False)
    named = chat(tools=[WEATHER, CLOCK], tool_choice={"type": "function", "function": {"name": "clock"}}).asked
    assert (named.required, named.allowed, named.parallel) == (True, ("clock",), True)
    assert chat(tools=[WEATHER], tool_choice="none").asked == Asked()


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_some_of_the_functions_may_be_called_and_all_are_explained(mode: str) -> None:
    asked = chat(tools=[WEATHER, CLOCK], tool_choice=_allowed("clock", mode=mode)).asked
    assert ([tool.name for tool in asked.tools], asked.allowed) == (["weather", "clock"], ("clock",))
    assert asked.required == (mode == "required")


def _allowed(*names: str, mode: str = "auto") -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_calls_and_their_results_are_turns() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    plan = chat(
        messages=[
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "rain"}]},
        ]
    )
    assert plan.queries[0].messages is not None
    assert plan.queries[0].messages[1:] == (
        Message(role="assistant", content="", calls=(Call(id="c1", name="weather", arguments="{}"),)),
        Message(role="tool", content="rain", call="c1", name="weather"),
    )


def test_formats_become_schemas() -> None:
    assert chat(response_format={"type": "json_object"}).asked.schema == '{"type":"object"}'
    schema = chat(response_format=document(CITY), tools=[WEATHER], tool_choice="none").asked.schema
    assert schema is not None
    assert json.loads(schema) == CITY
    beside = chat(response_format=document(CITY), tools=[WEATHER]).asked
    assert (beside.schema, len(beside.tools)) == (schema, 1)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"functions": [{}]}, "functions"),
        ({"function_call": {"name": "x"}}, "function_call"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        (
            {"messages": [{"role": "assistant", "content": "", "function_call": {"name": "x"}}]},
            "messages[0].function_call",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_is_not_served_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        chat(**more)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "unsupported", param)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"5": 101}}, "logit_bias[...]"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {str(1 << 70): 1}}, "logit_bias"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"seed": 2**63}, "seed"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "oracle", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "clock"}}},
            "tool_choice.function.name",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tools": [WEATHER], "tool_choice": _allowed()}, "tool_choice.allowed_tools.tools"),
        ({"tools": [WEATHER], "tool_choice": _allowed("weather", mode="none")}, "tool_choice.allowed_tools.mode"),
        (
            {"tools": [WEATHER], "tool_choice": _allowed("weather", "clock")},
            "tool_choice.allowed_tools.tools[1].function.name",
        ),
        ({"tools": [WEATHER], "ignore_eos": True}, "ignore_eos"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"response_format": {"type": "json_object"}, "stop": "x"}, "stop"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ],
)
def test_bad_values_name_their_field(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        chat(**more)
    refusal = caught.value
    assert (refusal.status, refusal.kind, refusal.code) == (400, "invalid_request_error", "invalid_request_error")
    assert refusal.param == param


def test_schemas_are_refused_by_their_path() -> None:
    with pytest.raises(Refusal) as caught:
        chat(response_format=document({"properties": {"a": {"not": {}}}}))
    assert (caught.value.code, caught.value.param) == (
        "unsupported_schema",
        "response_format.json_schema.schema.properties.a.not",
    )
    with pytest.raises(Refusal) as caught:
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}])
    assert caught.value.param == "tools[0].function.parameters.type"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(Refusal) as caught:
        parse_chat(b'{"model": "m"}')
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": ' + b"[" * 100_000,
        b'{"model": "m", "tools": ' + b'[{"type": "function", "function": {"name": "f", "parameters": {"items":' * 2,
        b'{"model": "m", "temperature": NaN, "messages": []}',
    ],
)
def test_hostile_bodies_are_plain_refusals(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_chat(body)
    assert caught.value.status == 400
