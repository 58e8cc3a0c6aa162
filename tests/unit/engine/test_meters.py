from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.meters import Histogram, Meters


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), max_size=20))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    histogram = Histogram((1.0, 5.0, 10.0))
    for value in values:
        histogram.observe(value)
    seen = histogram.snapshot()
    assert sum(seen.counts) == len(values)
    assert sum(seen.counts[:2]) == sum(value <= 5.0 for value in values)
    assert abs(seen.sum - sum(values)) < 1e-6


def test_tokens_gaps_and_stalls() -> None:
    meters = Meters(stall_after=0.4)
    meters.first_token(1.5)
    for gap in (0.1, 0.5, 0.2):
        meters.next_token(gap)
    meters.finish(tokens=4, length=9, queue=0.5, prompt=1.25, generation=0.75)
    times = meters.times()
    assert (meters.completion_tokens, meters.stalls, meters.finished, meters.service) == (4, 1, 1, 2.0)
    assert times.inter_token is not None
    assert times.per_output_token is not None
    assert sum(times.inter_token.counts) == 3
    assert abs(times.per_output_token.sum - 0.75 / 3) < 1e-9
    assert (meters.prompt_seconds, meters.generation_seconds, meters.longest) == (1.25, 0.75, 9)
    assert times.request is not None
    assert times.request.sum == 2.5
