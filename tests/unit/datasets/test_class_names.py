from __future__ import annotations

from typing import Any

import pytest

from appliance.datasets.class_names import names_in_card, with_class_names


def test_the_features_of_a_card_name_numbers_in_their_order() -> None:
    names = {"class_label": {"names": {"0": "a", "10": "c", "2": "b"}}}
    features = [
        {"name": "label", "dtype": names},
        {"name": "tags", "sequence": names},
        {"name": "text", "dtype": "string"},
    ]
    expected = {"label": ("a", "b", "c"), "tags": ("a", "b", "c")}
    assert names_in_card({"dataset_info": {"features": features}}) == expected
    assert names_in_card({"dataset_info": [{"features": features}]}) == expected


@pytest.mark.parametrize("card", [None, [], {}, {"dataset_info": 3}, {"dataset_info": {"features": {"a": 1}}}])
def test_other_cards_name_nothing(card: Any) -> None:
    assert names_in_card(card) == {}


def test_numbers_are_called_by_their_names_alone_and_in_lists() -> None:
    fields = {"label": 1, "tags": [0, 1, 5], "flag": True, "n": 1}
    called = with_class_names(fields, {"label": ("a", "b"), "tags": ("x", "y"), "flag": ("no", "yes")})
    assert called == {"label": "b", "tags": ["x", "y", 5], "flag": True, "n": 1}
