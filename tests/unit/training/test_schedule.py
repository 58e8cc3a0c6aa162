from __future__ import annotations

from itertools import pairwise

from appliance.training.schedule import Schedule

SCHEDULE = Schedule(peak=0.1, steps=100, warmup_fraction=0.1, final_fraction=0.2)


def test_it_rises_falls_and_ends_at_its_fraction() -> None:
    rates = [SCHEDULE.rate(step) for step in range(101)]
    assert all(earlier < later for earlier, later in pairwise(rates[:11]))
    assert max(rates) == rates[10] == 0.1
    assert all(earlier >= later for earlier, later in pairwise(rates[10:]))
    assert abs(rates[100] - 0.02) < 1e-12


def test_the_first_step_learns_something() -> None:
    assert SCHEDULE.rate(0) > 0


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert Schedule(peak=0.3, steps=1, warmup_fraction=0.0, final_fraction=0.0).rate(0) == 0.3


def test_a_line_falls_evenly_and_a_constant_rate_not_at_all() -> None:
    line = Schedule(peak=1.0, steps=10, warmup_fraction=0.0, final_fraction=0.2, shape="linear")
    assert abs(line.rate(5) - 0.6) < 1e-12
    assert abs(line.rate(10) - 0.2) < 1e-12
    flat = Schedule(peak=1.0, steps=10, warmup_fraction=0.2, final_fraction=0.2, shape="constant")
    assert [flat.rate(step) for step in (2, 5, 9)] == [1.0, 1.0, 1.0]
    assert flat.rate(0) < 1.0
