from __future__ import annotations

import click
import pytest

from appliance.cli.kfold import kfold
from appliance.cli.search import search
from appliance.cli.train import train
from appliance.training.recipes.registry import RECIPES


@pytest.mark.parametrize("group", [train, kfold, search], ids=lambda group: group.name)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_verb_with_its_inputs_as_options(group: click.Group, name: str) -> None:
    options = {option.name: option for option in group.commands[name].params}
    known = RECIPES[name]
    assert {"given", "seed", "detach", *known.inputs} <= set(options)
    assert {word for word in known.inputs if options[word].required} == set(known.inputs) - set(known.optional)


def test_own_options_are_those_of_the_verb() -> None:
    assert [option.name for option in kfold.commands["lora"].params][4:6] == ["folds", "detach"]
    own = [option.name for option in search.commands["lora"].params][4:10]
    assert own == ["vary", "trials", "batch", "metric", "direction", "detach"]
    assert [option.name for option in train.commands["lora"].params][4:6] == ["planned", "detach"]
