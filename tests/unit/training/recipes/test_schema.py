"""Recipe fields as data: what a form is made from is what the parser enforces."""

from __future__ import annotations

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.recipes.registry import RECIPES, parse_recipe
from appliance.training.recipes.schema import RecipeField, fields_of

ALL = [
    pytest.param(name, field, id=f"{name}.{field.name}") for name in RECIPES for field in fields_of(RECIPES[name].form)
]


@pytest.mark.parametrize(("name", "field"), ALL)
def test_every_field_has_a_meaning_and_its_default_is_taken(name: str, field: RecipeField) -> None:
    assert field.meaning.endswith(".")
    recipe = parse_recipe(f"train.{name}", {field.name: field.default})
    assert recipe == parse_recipe(f"train.{name}", {})


@pytest.mark.parametrize(("name", "field"), [one for one in ALL if one.values[1].minimum is not None])  # type: ignore[union-attr]
def test_what_is_below_the_least_is_refused_by_the_parser(name: str, field: RecipeField) -> None:
    assert field.minimum is not None
    with pytest.raises(BadInput, match=field.name):
        parse_recipe(f"train.{name}", {field.name: type(field.default)(field.minimum - 1)})


def test_own_fields_come_before_those_that_all_recipes_have() -> None:
    names = [field.name for field in fields_of(RECIPES["lora"].form)]
    assert names.index("rank") < names.index("accumulation")
    assert len(names) == len(set(names))
