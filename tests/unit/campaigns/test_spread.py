from __future__ import annotations

import pytest
from scipy import stats

from appliance.campaigns.spread import spread_of, student_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 19])
def test_the_quantile_is_students(freedom: int) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_the_spread_is_wider_than_that_of_independent_samples() -> None:
    found = spread_of([0.8, 0.9, 0.85, 0.95, 0.9])
    assert found.mean == pytest.approx(0.88)
    assert found.deviation == pytest.approx(0.0570088)
    plain = stats.t.interval(0.95, 4, loc=0.88, scale=0.0570088 / 5**0.5)
    assert found.low < plain[0]
    assert found.high > plain[1]
    assert found.high - 0.88 == pytest.approx(stats.t.ppf(0.975, 4) * 0.0570088 * (1 / 5 + 1 / 4) ** 0.5, rel=1e-5)


def test_equal_figures_have_no_spread() -> None:
    found = spread_of([0.5, 0.5])
    assert (found.low, found.high, found.deviation) == (0.5, 0.5, 0.0)
