from __future__ import annotations

from typing import Any

import pytest

from appliance.kernel.errors import BadInput
from appliance.tuning.ladder import Measurement, Parameters, Roofline, Speed, best, parse, score, share, steps_down


def measured(threads: int, ubatch: int, tokens: float, form: str = "Q8_0") -> Measurement:
    speed = Speed(prompt=tokens * 4, answer=tokens, answers=tokens * 2)
    return Measurement(
        format=form, size=1, threads=threads, ubatch=ubatch, speed=speed, build="", bandwidth_share=0, peak_share=0
    )


@pytest.mark.parametrize(
    "given",
    [{"threads": [0]}, {"threads": "two"}, {"ubatches": [1]}, {"formats": ["q3_x"]}, {"prompt": 1}, {"nonsense": 1}],
)
def test_what_cannot_be_measured_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        parse(given)
    assert refused.value.code == "tune.parameters"


def test_defaults_and_no_formats_at_all() -> None:
    assert parse({}) == Parameters()
    assert parse({"formats": []}).formats == ()


def test_only_coarser_formats_are_made() -> None:
    every = ["q4_0", "q8_0", "q4_k_m", "bf16"]
    assert steps_down("F32", every) == every
    assert steps_down("BF16", every) == ["q4_0", "q8_0", "q4_k_m"]
    assert steps_down("Q8_0", every) == ["q4_0", "q4_k_m"]
    assert steps_down("Q4_0", every) == []


def test_shares_of_the_roofline() -> None:
    roofline = Roofline(threads=2, bandwidth=40e9, peak_f32=100e9, peak_bf16=200e9)
    speed = Speed(prompt=100, answer=20, answers=30)
    bandwidth, peak = share(speed, size=10**9, parameters=5 * 10**8, roofline=roofline)
    assert (round(bandwidth, 9), round(peak, 9)) == (0.5, 0.5)


def test_the_fastest_wins_and_of_equals_the_one_that_takes_least() -> None:
    assert best([measured(1, 128, 10), measured(2, 128, 20), measured(4, 512, 19)]).threads == 2
    assert best([measured(4, 512, 20), measured(4, 128, 19.9), measured(2, 512, 19.8)]).threads == 2
    assert best([measured(2, 512, 20), measured(2, 128, 19.9)]).ubatch == 128
    assert score(measured(1, 1, 10).speed) == pytest.approx(20)
