from __future__ import annotations

import pytest

from appliance.engine.frames import Failed
from appliance.gateway.refusals import from_engine
from appliance.gateway.responses import parse_response


@pytest.mark.parametrize(("estimate", "told"), [(0.0, 1), (2.2, 3), (1e9, 60)])
def test_a_full_queue_tells_when_to_come_back(estimate: float, told: int) -> None:
    failed = Failed(id=1, code="engine.busy", message="128 requests wait.", retryable=True, retry_after=estimate)
    refusal = from_engine(failed, "m")
    assert (refusal.status, refusal.code, refusal.retry_after) == (429, "rate_limit_exceeded", told)


def test_what_will_not_succeed_later_names_no_time() -> None:
    refusal = from_engine(Failed(id=1, code="engine.context_length", message="too long"), "m")
    assert (refusal.status, refusal.retry_after) == (400, 0)


@pytest.mark.parametrize("code", ["engine.request_defect", "engine.grammar_defect", "engine.tokenise"])
def test_a_defect_of_the_engine_is_not_the_clients_fault(code: str) -> None:
    refusal = from_engine(Failed(id=1, code=code, message="KeyError in x:1"), "m")
    assert (refusal.status, refusal.kind, refusal.message) == (
        500,
        "server_error",
        "The engine failed while handling this request.",
    )


@pytest.mark.parametrize(
    ("code", "chat", "response"),
    [
        ("engine.shape", "response_format", "text.format"),
        ("engine.reasoning", "reasoning_effort", "reasoning.effort"),
        ("engine.bias", "logit_bias", "logit_bias"),
        ("engine.context_length", None, None),
    ],
)
def test_a_field_is_named_as_the_request_has_it(code: str, chat: str | None, response: str | None) -> None:
    failed = Failed(id=1, code=code, message="not so")
    paths = parse_response(b'{"model": "m", "input": "x"}').paths
    assert (from_engine(failed, "m").param, from_engine(failed, "m", paths).param) == (chat, response)
