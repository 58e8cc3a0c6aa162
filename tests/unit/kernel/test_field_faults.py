from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from appliance.kernel.field_faults import fault_in, listing, nearest


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    rank: Annotated[int, Meta(ge=1, le=256)] = 16
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    rate: Annotated[float, Meta(gt=0)] = 0.001
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    packing: bool = False
    targets: tuple[str, ...] = ()
    keep: tuple[Annotated[int, Meta(ge=0, le=1024)], ...] = ()
    rows: Annotated[int, Meta(ge=1, le=100_000)] | Literal["weights"] = 64
    low: int | float | None = None


@pytest.mark.parametrize(
    ("field", "value", "text", "hint"),
    [
        ("rnak", 8, "lora has no field rnak; the nearest is rank", "See the list."),
        ("zzzzz", 8, "lora has no field zzzzz", "See the list."),
        ("rank", 9999, "rank cannot be 9999; it takes a whole number from 1 to 256", "Without it, it is 16."),
        ("rank", "abc", "rank cannot be 'abc'; it takes a whole number from 1 to 256", "Without it, it is 16."),
        ("rank", "8", "rank cannot be '8'; it takes a whole number from 1 to 256", "Write the number without quotes."),
        ("rank", "4,8", "rank cannot be '4,8'; it takes a whole number from 1 to 256", "Give one number."),
        (
            "dropout",
            "0,1",
            "dropout cannot be '0,1'; it takes a number from 0 to below 1",
            "Write the decimal sign as a point: 0.1.",
        ),
        ("rate", 0, "rate cannot be 0; it takes a number above 0", "Without it, it is 0.001."),
        ("rate", math.inf, "rate cannot be Infinity; it takes a number above 0", "Without it, it is 0.001."),
        (
            "schedule",
            "cosin",
            "schedule cannot be 'cosin'; it takes constant, cosine or linear",
            "Did you mean cosine?",
        ),
        ("packing", "yes", "packing cannot be 'yes'; it takes true or false", "Without it, it is false."),
        (
            "targets",
            "q",
            "targets cannot be 'q'; it takes a list, each of which is a text",
            "Write a list, such as ['q'].",
        ),
        (
            "keep",
            [-1],
            "keep cannot be [-1]; it takes a list, each of which is a whole number from 0 to 1024",
            "Without it, it is [].",
        ),
        (
            "rows",
            0,
            "rows cannot be 0; it takes a whole number from 1 to 100000 or weights",
            "Without it, it is 64.",
        ),
        ("low", "a", "low cannot be 'a'; it takes a number", "Correct low."),
    ],
)
def test_a_field_is_named_with_what_it_takes_and_what_it_got(field: str, value: Any, text: str, hint: str) -> None:
    fault = fault_in(Form, {"name": "x", field: value}, name="lora", listed="See the list.")
    assert fault is not None
    assert (fault.field, fault.text, fault.hint) == (field, text, hint)


def test_what_a_form_takes_has_no_fault() -> None:
    assert fault_in(Form, {"name": "x", "rank": 8, "dropout": 0, "rows": "weights"}, name="lora", listed="") is None


def test_what_is_missing_is_named() -> None:
    fault = fault_in(Form, {"rank": 8}, name="lora", listed="See the list.")
    assert fault is not None
    assert (fault.field, fault.text) == ("", "lora needs name")


def test_long_values_are_cut() -> None:
    fault = fault_in(Form, {"name": "x", "rank": "y" * 500}, name="lora", listed="")
    assert fault is not None
    assert len(fault.text) < 110


def test_words_are_listed_and_the_nearest_is_found() -> None:
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c"]) == "a, b or c"
    assert nearest("rnak", ("alpha", "rank")) == "rank"
    assert nearest("x", ("alpha",)) == ""
