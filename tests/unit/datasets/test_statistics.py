from __future__ import annotations

from collections import Counter

import pytest

from appliance.datasets.statistics import Statistics, balance, label_table, spread


def test_quantiles_are_those_of_the_nearest_rank() -> None:
    figures = spread(range(1, 101))
    assert (figures["min"], figures["max"], figures["mean"], figures["total"]) == (1, 100, 50.5, 5050)
    assert [figures[f"p{q}"] for q in (5, 25, 50, 75, 95, 99)] == [5, 25, 50, 75, 95, 99]
    assert spread([7])["p99"] == 7
    assert set(spread([]).values()) == {0}


@pytest.mark.parametrize(
    ("labels", "expected"), [({}, 0.0), ({"a": 9}, 0.0), ({"a": 5, "b": 5}, 1.0), ({"a": 99, "b": 1}, 0.0808)]
)
def test_balance_is_entropy_over_the_greatest(labels: dict[str, int], expected: float) -> None:
    assert balance(labels) == expected


def test_a_part_counts_rows_labels_and_personal_data() -> None:
    part = Statistics()
    part.add({"text": "write to a@b.org and c@d.org", "label": "x"})
    part.add({"text": "abc", "label": "y"})
    figures = part.to_dict()
    assert (figures["rows"], figures["labels"], figures["balance"]) == (2, 2, 1.0)
    assert (figures["personal"], figures["personal_rows"]) == ({"email": 2}, 1)
    assert figures["characters"]["min"] == 3


def test_labels_are_listed_with_both_parts_the_most_frequent_first() -> None:
    table = label_table(Counter({"a": 1, "b": 3}), Counter({"a": 2, "c": 9}))
    assert table == [
        {"label": "c", "train": 0, "heldout": 9},
        {"label": "a", "train": 1, "heldout": 2},
        {"label": "b", "train": 3, "heldout": 0},
    ]
