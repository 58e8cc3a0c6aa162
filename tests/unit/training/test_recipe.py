from __future__ import annotations

from typing import Any

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.recipe import LoraRecipe, SeedRecipe, parse_recipe


def test_defaults_need_no_parameters() -> None:
    assert parse_recipe("train.seed", {}) == SeedRecipe()
    assert parse_recipe("train.lora", {}) == LoraRecipe()


def test_a_ruinous_learning_rate_is_a_choice() -> None:
    assert parse_recipe("train.lora", {"learning_rate": 5.0}).learning_rate == 5.0


@pytest.mark.parametrize(
    ("kind", "parameters", "named"),
    [
        ("train.seed", {"stepz": 3}, "stepz"),
        ("train.seed", {"steps": 0}, "steps"),
        ("train.seed", {"steps": "many"}, "steps"),
        ("train.seed", {"hidden_size": 250}, "hidden_size"),
        ("train.seed", {"kv_heads": 3}, "kv_heads"),
        ("train.seed", {"hidden_size": 36, "heads": 12, "kv_heads": 12}, "even"),
        ("train.seed", {"context_length": 64, "sequence_length": 128}, "sequence_length"),
        ("train.lora", {"rank": 0}, "rank"),
        ("train.lora", {"dropout": 1.0}, "dropout"),
        ("train.lora", {"learning_rate": -1.0}, "learning_rate"),
        ("train.everything", {}, "train.everything"),
    ],
)
def test_a_bad_recipe_is_refused_by_name(kind: str, parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named) as refused:
        parse_recipe(kind, parameters)
    assert refused.value.code == "recipe.invalid"
