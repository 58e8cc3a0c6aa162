from __future__ import annotations

from typing import Any

import pytest

from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.recipes.registry import RECIPES, parse_recipe, recipe_of
from appliance.training.recipes.seed import SeedRecipe


def test_every_kind_of_training_has_a_recipe_and_every_recipe_a_job() -> None:
    assert {f"train.{name}" for name in RECIPES} == {str(kind) for kind in JobKind if kind.startswith("train.")}


@pytest.mark.parametrize("name", RECIPES)
def test_defaults_need_no_parameters_and_tell_their_load(name: str) -> None:
    recipe = parse_recipe(f"train.{name}", {})
    assert recipe == RECIPES[name].form()
    assert recipe.load().batch_size >= 1
    assert recipe.fault() == ""
    assert RECIPES[name].required_inputs


def test_a_task_gets_its_recipe_in_its_own_form() -> None:
    assert recipe_of(SeedRecipe, {"steps": 3}).steps == 3
    assert recipe_of(LoraRecipe, {"learning_rate": 5.0}).learning_rate == 5.0  # ruinous, and a choice


def test_steps_are_told_where_rows_tell_them() -> None:
    assert SeedRecipe(steps=7).steps_for(1000) == 7
    assert LoraRecipe(epochs=2, batch_size=4, accumulation=2).steps_for(17) == 2 * 3


@pytest.mark.parametrize(
    ("kind", "parameters", "named"),
    [
        ("train.seed", {"stepz": 3}, "stepz"),
        ("train.seed", {"steps": 0}, "steps"),
        ("train.seed", {"steps": "many"}, "steps"),
        ("train.seed", {"schedule": "sine"}, "sine"),
        ("train.seed", {"hidden_size": 250}, "hidden_size"),
        ("train.seed", {"kv_heads": 3}, "kv_heads"),
        ("train.seed", {"hidden_size": 36, "heads": 12, "kv_heads": 12}, "even"),
        ("train.seed", {"context_length": 64, "sequence_length": 128}, "sequence_length"),
        ("train.lora", {"rank": 0}, "rank"),
        ("train.lora", {"dropout": 1.0}, "dropout"),
        ("train.lora", {"learning_rate": -1.0}, "learning_rate"),
        ("train.everything", {}, "train.everything"),
        ("lora", {}, "not a kind of training"),
    ],
)
def test_a_bad_recipe_is_refused_by_name(kind: str, parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named) as refused:
        parse_recipe(kind, parameters)
    assert refused.value.code == "recipe.invalid"
