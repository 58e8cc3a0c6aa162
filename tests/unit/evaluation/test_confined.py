"""What strangers wrote costs at most a second: patterns that explode and templates that never end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.evaluation.confined import Confined
from appliance.kernel.errors import BadInput


@pytest.fixture(scope="module")
def confined() -> Iterator[Confined]:
    with Confined() as child:
        yield child


def test_an_exploding_pattern_is_stopped_and_the_next_one_works(confined: Confined) -> None:
    with pytest.raises(BadInput, match=r"evaluation\.pattern.*took more than 1 s"):
        confined.search("(a+)+$", "a" * 40 + "!")
    assert confined.search("b+", "abc")
    assert not confined.search("^b", "abc")


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10000000000 }}",
    ],
)
def test_a_template_that_costs_too_much_is_stopped(confined: Confined, source: str) -> None:
    with pytest.raises(BadInput, match=r"suite\.template"):
        confined.render(source, {})
    assert confined.render("{{ a }}!", {"a": 1}) == "1!"


@pytest.mark.parametrize(
    ("source", "values", "wanted"),
    [
        ("{{ choices }}", {"choices": ["a", "b"]}, ["a", "b"]),
        ("{{ [one, two] }}", {"one": "x", "two": "y"}, ["x", "y"]),
        ("{{ answer }}", {"answer": 3}, 3),
        ("{{ question }}\nAnswer:", {"question": "Why?"}, "Why?\nAnswer:"),
    ],
)
def test_lists_and_numbers_stay_what_they_are(
    confined: Confined, source: str, values: dict[str, Any], wanted: object
) -> None:
    assert confined.render(source, values, native=True) == wanted


@pytest.mark.parametrize(
    "source", ["{{ missing }}", "{{ ().__class__.__base__.__subclasses__() }}", "{% include 'x' %}"]
)
@pytest.mark.parametrize("native", [False, True])
def test_a_missing_field_and_a_way_out_of_the_sandbox_are_refused(
    confined: Confined, source: str, native: bool
) -> None:
    with pytest.raises(BadInput, match=r"suite\.template"):
        confined.render(source, {}, native=native)
