"""A student before it learns: a model that is given, or its teacher with some of the layers."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.jobs.workspace import Workspace
from appliance.training.recipes.distil import DistilRecipe
from appliance.training.shrink.cuts import every_second
from appliance.training.shrink.layout import layout_of
from appliance.training.shrink.surgery import Cut, write_cut
from appliance.weights.families import family_of_folder


def before_learning(workspace: Workspace, recipe: DistilRecipe) -> Path:
    """Return the student's folder before it learns: the job's base, or one made of some of the teacher's layers.

    Raises BadInput (`training.not_prunable`, `training.no_such_layer`).
    """
    if "base" in workspace.spec.inputs:
        return workspace.input("base")
    return _some_layers(workspace.input("teacher"), workspace.scratch, recipe)


def _some_layers(teacher: Path, scratch: Path, recipe: DistilRecipe) -> Path:
    layout = layout_of(family_of_folder(teacher))
    count = int(json.loads((teacher / "config.json").read_bytes())["num_hidden_layers"])
    made = scratch / "student"
    made.mkdir()
    write_cut(teacher, made, layout, Cut(layers=tuple(sorted(recipe.keep_layers)) or every_second(count)))
    return made
