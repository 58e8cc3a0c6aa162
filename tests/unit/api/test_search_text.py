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
