from __future__ import annotations

from typing import Any

import msgspec
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


@pytest.mark.parametrize(
    ("parameters", "message", "hint"),
    [
        (
            {"rnak": 8},
            "The recipe for train.lora is not valid: lora has no field rnak; the nearest is rank.",
            "`intramuros train recipes lora` lists its fields.",
        ),
        (
            {"rank": 9999},
            "The recipe for train.lora is not valid: rank cannot be 9999; it takes a whole number from 1 to 256.",
            "Without it, it is 16.",
        ),
        (
            {"dropout": "0,1"},
            "The recipe for train.lora is not valid: dropout cannot be '0,1'; it takes a number from 0 to below 1.",
            "Write the decimal sign as a point: 0.1.",
        ),
        (
            {"patience": 3},
            "The recipe for train.lora is not valid: patience needs evaluate_every.",
            "Change one of them; `intramuros train recipes lora` lists its fields.",
        ),
    ],
)
def test_a_refusal_says_what_to_write(parameters: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_recipe("train.lora", parameters)
    assert (refused.value.message, refused.value.hint) == (message, hint)


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_has_words_for_what_it_takes(name: str) -> None:
    for field in msgspec.structs.fields(RECIPES[name].form):
        with pytest.raises(BadInput, match=f"{field.name} cannot be") as refused:
            parse_recipe(f"train.{name}", {field.name: {"no": "value"}})
        assert "another kind" not in refused.value.message
