from __future__ import annotations

import random

import pytest

from benchmarks.soak import trend

TIMES = [float(second) for second in range(400)]


def test_a_line_has_its_slope_and_no_doubt() -> None:
    line = trend(TIMES, [100 + 0.5 * at for at in TIMES])
    assert line.slope == pytest.approx(0.5)
    assert line.low == pytest.approx(line.high)


def test_noise_around_a_slope_is_inside_the_interval_and_a_flat_line_is_not_told_from_zero() -> None:
    dice = random.Random(3)
    rising = trend(TIMES, [0.01 * at + dice.gauss(0, 1) for at in TIMES])
    assert 0 < rising.low < 0.01 < rising.high
    flat = trend(TIMES, [100 + dice.gauss(0, 1) for _ in TIMES])
    assert flat.low < 0 < flat.high


def test_samples_that_depend_on_the_one_before_widen_the_interval() -> None:
    dice = random.Random(5)
    steps = [dice.gauss(0, 1) for _ in TIMES]
    walk, at = [], 0.0
    for step in steps:
        at = 0.9 * at + step
        walk.append(at)
    shuffled = dice.sample(walk, len(walk))
    wide, narrow = trend(TIMES, walk), trend(TIMES, shuffled)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_few_samples_have_no_slope() -> None:
    with pytest.raises(ValueError, match="3 samples"):
        trend([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
