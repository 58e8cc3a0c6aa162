from __future__ import annotations

import pytest

from appliance.api.search_text import search_text
from appliance.campaigns.search_file import parse_search_file
from appliance.kernel.errors import BadInput

RECIPE = "recipe: lora\nbase: seed@1\ndata: faq@1\nseed: 3\nwith: {rank: 8, schedule: cosine}\n"


def test_words_become_a_search_file() -> None:
    vary = (
        "learning_rate=1e-5..1e-2:log",
        "epochs=2..6",
        "rank=4,8,16",
        "schedule=cosine,linear",
        "packing=true,false",
    )
    file, _ = parse_search_file(search_text(RECIPE, vary, trials=7, batch=3).encode(), name="search")
    assert (file.trials, file.batch, file.recipe["data"], file.recipe["with"]["rank"]) == (7, 3, "faq@1", 8)
    rate, epochs, rank, schedule, packing = (file.space[text.partition("=")[0]] for text in vary)
    assert (rate.low, rate.high, rate.log) == (1e-5, 1e-2, True)
    assert (epochs.low, epochs.high, epochs.log) == (2, 6, False)
    assert isinstance(epochs.low, int)
    assert (rank.choices, schedule.choices, packing.choices) == ((4, 8, 16), ("cosine", "linear"), (True, False))


@pytest.mark.parametrize("words", ["rank", "rank=", "=4,8", "rank=4..", "rank=..8", "rank=,", "rank=4..:log"])
def test_words_that_say_no_values_are_refused(words: str) -> None:
    with pytest.raises(BadInput, match="does not say which values") as refused:
        search_text(RECIPE, (words,), trials=4, batch=2)
    assert refused.value.code == "search.vary"


@pytest.mark.parametrize(
    ("vary", "message", "hint"),
    [
        (("rank=16..4",), "rank=16..4 goes down: 16 is not below 4.", "Write rank=4..16."),
        (("rank=4..4",), "rank=4..4 goes down: 4 is not below 4.", "Set one value with --set, or write choices."),
        (
            ("rank=a..b",),
            "rank=a..b is no range: 'a' is no number.",
            "A range has two numbers, such as 4..16; words are choices, such as cosine,linear.",
        ),
        (
            ("learning_rate=1e-4..1e-2:lgo",),
            "learning_rate=1e-4..1e-2:lgo is no range: '1e-2:lgo' is no number.",
            "The one word behind a range is :log.",
        ),
        (
            ("dropout=0,1..0,3",),
            "dropout=0,1..0,3 is no range: '0,1' is no number.",
            "Write the decimal sign as a point.",
        ),
        (("rank=4,8", "rank=16..32"), "rank is varied twice.", "Write all its values in one place."),
    ],
)
def test_what_is_no_range_is_told_by_its_field(vary: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        search_text(RECIPE, vary, trials=4, batch=2)
    assert (refused.value.code, refused.value.message, refused.value.hint) == ("search.vary", message, hint)


def test_a_field_is_fixed_or_varied() -> None:
    with pytest.raises(BadInput, match="rank is both fixed and varied") as refused:
        search_text(RECIPE, ("rank=4,8",), trials=4, batch=2, fixed=("epochs", "rank"))
    assert (refused.value.code, refused.value.hint) == ("search.vary", "Leave one of the two out.")
