from __future__ import annotations

import pytest

from appliance.engine.frames import Failed
from appliance.gateway.refusals import from_engine


@pytest.mark.parametrize(("estimate", "told"), [(0.0, 1), (2.2, 3), (1e9, 60)])
def test_a_full_queue_tells_when_to_come_back(estimate: float, told: int) -> None:
    failed = Failed(id=1, code="engine.busy", message="128 requests wait.", retryable=True, retry_after=estimate)
    refusal = from_engine(failed, "m")
    assert (refusal.status, refusal.code, refusal.retry_after) == (429, "rate_limit_exceeded", told)


def test_what_will_not_succeed_later_names_no_time() -> None:
    refusal = from_engine(Failed(id=1, code="engine.context_length", message="too long"), "m")
    assert (refusal.status, refusal.retry_after) == (400, 0)
