"""The ladder's arithmetic: ratios with their error, what sizes allow, how text is cut."""

from __future__ import annotations

import math

import pytest

from appliance.conversion.ladder import parse, ratio, report_text, why_not, windows
from appliance.kernel.errors import BadInput


def test_a_ratio_is_over_all_tokens_and_knows_its_error() -> None:
    base = [10.0, 20.0, 30.0]
    rung = [nats + 0.1 for nats in base]
    found = ratio(base, rung, [10, 20, 30])
    assert found.value == pytest.approx(math.exp(0.3 / 60))
    assert found.low < found.value < found.high
    same = ratio(base, base, [10, 20, 30])
    assert (same.low, same.value, same.high) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="no tokens"):
        ratio([], [], [])


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    import random

    source = random.Random(11)
    covered = 0
    for _ in range(200):
        tokens = [source.randint(5, 40) for _ in range(60)]
        rises = [sum(source.gauss(0.01, 0.2) for _ in range(count)) for count in tokens]
        found = ratio([0.0] * 60, rises, tokens)
        covered += found.low <= math.exp(0.01) <= found.high
    assert covered >= 180


@pytest.mark.parametrize(
    ("name", "rows", "named"),
    [
        ("Q4_K_M", {"a": 512, "b": 256}, ""),
        ("Q4_K_M", {"a": 512, "b": 192, "c": 64}, "2 of 3 matrices have rows of 64, 192 weights"),
        ("Q8_0", {"a": 192}, ""),
        ("Q4_0", {"a": 100}, "Q4_0 needs multiples of 32"),
    ],
)
def test_a_rung_that_the_sizes_do_not_allow_is_told(name: str, rows: dict[str, int], named: str) -> None:
    assert named in why_not(name, rows)
    assert bool(why_not(name, rows)) is bool(named)


def test_text_is_cut_within_its_bounds() -> None:
    assert windows([[1, 2, 3, 4, 5], [6], [7, 8]], longest=3, most=100) == [[1, 2, 3], [4, 5], [7, 8]]
    assert sum(map(len, windows([list(range(1000))], longest=64, most=200))) == 200


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"to": ["Q3_X"]}, "'Q3_X' is not a rung"),
        ({"to": ["Q8_0", "Q8_0"]}, "twice"),
        ({"to": []}, "length >= 1"),
        ({"rung": "Q8_0"}, "rung"),
    ],
)
def test_what_cannot_be_climbed_is_refused(values: dict[str, object], named: str) -> None:
    with pytest.raises(BadInput, match=r"conversion\.ladder") as refusal:
        parse(values)
    assert named in refusal.value.message


def test_the_report_tells_rungs_and_those_not_made() -> None:
    made = {
        "name": "Q8_0",
        "made": True,
        "gguf_bytes": 10,
        "size_ratio": 0.25,
        "perplexity": 3.0,
        "perplexity_ratio": 1.001,
        "perplexity_ratio_interval": [1.0, 1.002],
        "same_tokens": 1.0,
        "prefill_ratio": 1.5,
        "decode_ratio": 2.0,
    }
    left_out = {"name": "Q4_K_M", "made": False, "why_not": "rows of 192"}
    text = report_text(
        {"rungs": [made, left_out], "perplexity": 3.0, "measured_tokens": 9, "data": "faq@1", "gguf_bytes": 40}
    )
    assert "| Q8_0 | 10 | 0.250 | 3.0000 | 1.0010 | 1.0000 to 1.0020 | 1.000 | 1.50 | 2.00 |" in text
    assert "not made: rows of 192" in text
