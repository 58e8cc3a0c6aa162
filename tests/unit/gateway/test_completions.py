"""What clients may send to /v1/completions, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engine.frames import Sampling
from appliance.gateway.completions import parse_completion
from appliance.gateway.plan import Asker, Plan, Query
from appliance.gateway.refusals import Refusal

KEY = Asker(tenant="key")


def completion(**more: Any) -> Plan:
    return parse_completion(json.dumps({"model": "m", "prompt": "hi"} | more).encode())


def test_n_makes_choices_with_their_own_seeds() -> None:
    frames = completion(prompt=["x", "y"], n=2, seed=10).submits(KEY)
    assert [(frame.prompt, frame.params.seed, frame.tenant) for frame in frames] == [
        ("x", 10, "key"),
        ("x", 11, "key"),
        ("y", 10, "key"),
        ("y", 11, "key"),
    ]
    assert [frame.params.seed for frame in completion(n=2).submits(KEY)] == [None, None]
    assert [frame.params.seed for frame in completion(n=2, seed=2**63 - 1).submits(KEY)] == [2**63 - 1, 0]


def test_log_probabilities_and_echo() -> None:
    assert completion(logprobs=0).sampling.logprobs == 0
    assert completion(logprobs=5, echo=True).sampling == Sampling(logprobs=5, echo=True)


def test_prompts_of_every_kind() -> None:
    assert completion(prompt=[1, 2]).queries == (Query(tokens=(1, 2)),)
    assert completion(prompt=[[1], [2, 3]]).queries == (Query(tokens=(1,)), Query(tokens=(2, 3)))
    assert completion(prompt=["a", [2]]).queries == (Query(text="a"), Query(tokens=(2,)))
    assert completion(suffix="end").queries == (Query(text="hi", suffix="end"),)
    assert completion(suffix="").queries == (Query(text="hi"),)


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"prompt": []}, "prompt", "invalid_request_error"),
        ({"prompt": [[]]}, "prompt[0]", "invalid_request_error"),
        ({"prompt": [-1]}, "prompt[0]", "invalid_request_error"),
        ({"prompt": [True]}, "prompt[0]", "invalid_request_error"),
        ({"prompt": ["a", 1]}, "prompt", "invalid_request_error"),
        ({"prompt": {}}, "prompt", "invalid_request_error"),
        ({"suffix": "end", "prompt": [[1]]}, "suffix", "invalid_request_error"),
        ({"suffix": "end", "echo": True}, "echo", "invalid_request_error"),
        ({"best_of": 3}, "best_of", "unsupported"),
        ({"logprobs": 6}, "logprobs", "invalid_request_error"),
        ({"prompt": ["x"] * 5, "n": 2}, "n", "invalid_request_error"),
    ],
)
def test_refusals(more: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        completion(**more)
    assert (caught.value.param, caught.value.code) == (param, code)
