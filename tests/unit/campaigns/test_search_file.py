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
    assert (file.trials, file.batch, file.metric, file.direction) == (5, 2, "", "")
    assert file.space["learning_rate"].log
    assert file.space["rank"].choices == (4, 8)
    assert isinstance(file.space["epochs"].low, int)


@pytest.mark.parametrize(
    ("was", "put", "line", "fault"),
    [
        ("trials: 5", "trials: 0", 9, "trials"),
        ("trials: 5", "attempts: 5", 1, "attempts"),
        ("{choices: [4, 8]}", "{choices: [4, 4]}", 7, "differ"),
        ("{choices: [4, 8]}", "{low: 1}", 7, "both"),
        ("{low: 1, high: 3}", "{low: 3, high: 1}", 8, "below"),
        ("low: 1e-4", "low: 0.0", 6, "above 0"),
        ("{low: 1, high: 3}", "{low: 1, high: 3, choices: [1]}", 8, "either"),
        ("space:", "spaces:", 1, "space"),
    ],
)
def test_a_fault_is_named_with_its_line(was: str, put: str, line: int, fault: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_search_file(GOOD.replace(was, put).encode(), name="s.yaml")
    assert refused.value.code == "search.file"
    assert f"s.yaml, line {line}:" in refused.value.message
    assert fault in refused.value.message
