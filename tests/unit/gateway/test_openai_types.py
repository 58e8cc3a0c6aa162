"""What clients may send, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engine.frames import Message, Sampling
from appliance.gateway.openai_types import Plan, parse_chat, parse_completion
from appliance.gateway.refusals import Refusal


def chat(**more: Any) -> Plan:
    return parse_chat(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]} | more).encode())


def completion(**more: Any) -> Plan:
    return parse_completion(json.dumps({"model": "m", "prompt": "hi"} | more).encode())


def test_a_bare_request_gets_neutral_sampling() -> None:
    plan = chat()
    assert plan.sampling == Sampling()
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
    assert (plan.stream, plan.include_usage) == (True, True)


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
    assert chat(**dict.fromkeys(names)) == chat()


def test_content_parts_are_joined_and_developer_means_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    plan = chat(messages=[{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}])
    assert plan.queries[0].messages == (
        Message(role="system", content="be brief"),
        Message(role="user", content="ab"),
    )


def test_n_makes_choices_with_their_own_seeds() -> None:
    plan = completion(prompt=["x", "y"], n=2, seed=10)
    assert [(query.text, sampling.seed) for query, sampling in plan.submits()] == [
        ("x", 10),
        ("x", 11),
        ("y", 10),
        ("y", 11),
    ]
    assert [sampling.seed for _, sampling in completion(n=2).submits()] == [None, None]
    assert [s.seed for _, s in completion(n=2, seed=2**63 - 1).submits()] == [2**63 - 1, 0]


def test_logprobs_of_both_endpoints() -> None:
    assert chat(logprobs=True).sampling.logprobs == 0
    assert chat(logprobs=False).sampling.logprobs is None
    assert completion(logprobs=0).sampling.logprobs == 0
    assert completion(logprobs=5, echo=True).sampling == Sampling(logprobs=5, echo=True)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{}]}, "functions"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls"),
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
    ],
)
def test_bad_values_name_their_field(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        chat(**more)
    refusal = caught.value
    assert (refusal.status, refusal.kind, refusal.code) == (400, "invalid_request_error", "invalid_request_error")
    assert refusal.param == param


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
        b'{"x": ' + b"[" * 100_000,
        b'{"model": "m", "temperature": NaN, "messages": []}',
    ],
)
def test_hostile_bodies_are_plain_refusals(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_chat(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"prompt": [1, 2, 3]}, "prompt", "unsupported"),
        ({"prompt": [[1], [2]]}, "prompt", "unsupported"),
        ({"prompt": []}, "prompt", "invalid_request_error"),
        ({"suffix": "end"}, "suffix", "unsupported"),
        ({"best_of": 3}, "best_of", "unsupported"),
        ({"logprobs": 6}, "logprobs", "invalid_request_error"),
        ({"prompt": ["x"] * 5, "n": 2}, "n", "invalid_request_error"),
    ],
)
def test_text_completion_refusals(more: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        completion(**more)
    assert (caught.value.param, caught.value.code) == (param, code)
