from __future__ import annotations

import pytest

from appliance.campaigns.search_file import Dimension, combinations, parse_search_file
from appliance.kernel.errors import BadInput

GOOD = """\
recipe:
  recipe: lora
  base: a@1
  data: b@1
space:
  learning_rate: {low: 1e-4, high: 1e-2, log: true}
  rank: {choices: [4, 8]}
  epochs: {low: 1, high: 3}
trials: 5
"""


@pytest.mark.parametrize(
    ("space", "count"),
    [
        ({"rank": Dimension(choices=(4, 8)), "epochs": Dimension(low=2, high=6)}, 10),
        ({"rank": Dimension(choices=(4, 8)), "rate": Dimension(low=0.1, high=1.0)}, None),
        ({"rate": Dimension(low=1, high=2.0)}, None),
    ],
)
def test_how_many_trials_there_can_be(space: dict[str, Dimension], count: int | None) -> None:
    assert combinations(space) == count


def test_a_search_file_is_read_with_its_defaults() -> None:
    file, _ = parse_search_file(GOOD.encode(), name="s.yaml")
    assert (file.trials, file.batch, file.metric, file.direction) == (5, 2, "", None)
    assert file.space["learning_rate"].log
    assert file.space["rank"].choices == (4, 8)
    assert isinstance(file.space["epochs"].low, int)


@pytest.mark.parametrize(
    ("was", "put", "line", "fault"),
    [
        ("trials: 5", "trials: 0", 9, "trials"),
        ("trials: 5", "trails: 5", 9, "a search file has no field trails; the nearest is trials."),
        ("trials: 5", "trials: many", 9, "trials cannot be 'many'; it takes a whole number from 1 to 1000."),
        ("trials: 5", "direction: up", 9, "direction cannot be 'up'; it takes maximize or minimize."),
        ("low: 1e-4", "low: a", 6, "learning_rate: low cannot be 'a'; it takes a number."),
        ("log: true", "logs: true", 6, "learning_rate: a range has no field logs; the nearest is log."),
        ("{choices: [4, 8]}", "16", 7, "rank cannot be 16; it takes low and high, or choices."),
        ("{choices: [4, 8]}", "{choices: [4, 4]}", 7, "differ"),
        ("{choices: [4, 8]}", "{low: 1}", 7, "both"),
        ("{low: 1, high: 3}", "{low: 3, high: 1}", 8, "below"),
        ("low: 1e-4", "low: 0.0", 6, "above 0"),
        ("{low: 1, high: 3}", "{low: 1, high: 3, choices: [1]}", 8, "either"),
        ("space:", "spaces:", 5, "a search file has no field spaces; the nearest is space."),
    ],
)
def test_a_fault_is_named_with_its_line(was: str, put: str, line: int, fault: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_search_file(GOOD.replace(was, put).encode(), name="s.yaml")
    assert refused.value.code == "search.file"
    assert f"s.yaml, line {line}:" in refused.value.message
    assert fault in refused.value.message


@pytest.mark.parametrize("text", ["recipe: lora\nbase: a@1\ndata: b@1\n", "recipe: lora\nwith: {rank: 4}\n"])
def test_a_recipe_file_is_told_as_one(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_search_file(text.encode(), name="recipe.yaml")
    assert refused.value.code == "search.file"
    assert refused.value.message == "recipe.yaml, line 1: this is the recipe file of one run, not of a search."
    assert "`intramuros train run FILE`" in refused.value.hint
    assert "--vary" in refused.value.hint


def test_what_is_no_mapping_is_told() -> None:
    with pytest.raises(BadInput, match=r"s\.yaml, line 1: it must be a mapping with recipe and space") as refused:
        parse_search_file(b"- a\n", name="s.yaml")
    assert refused.value.code == "search.file"


def test_a_hint_says_what_to_write() -> None:
    with pytest.raises(BadInput) as refused:
        parse_search_file(GOOD.replace("low: 1e-4", "low: '0,1'").encode(), name="s.yaml")
    assert refused.value.hint == "Write the decimal sign as a point: 0.1."


def test_a_search_without_a_file_has_no_lines() -> None:
    with pytest.raises(BadInput) as refused:
        parse_search_file(GOOD.replace("{low: 1, high: 3}", "{low: 3, high: 1}").encode(), name="")
    assert refused.value.message == "epochs: low 3 must be below high 1."
