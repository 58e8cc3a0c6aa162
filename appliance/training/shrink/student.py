"""Where a student comes from: a base of its own, or the teacher with some of its layers."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.jobs.workspace import Workspace
from appliance.training.recipes.distil import DistilRecipe
from appliance.training.shrink.cuts import every_second
from appliance.training.shrink.layout import layout_of
from appliance.training.shrink.surgery import Cut, write_cut
from appliance.weights.families import family_of_folder


def student_folder(workspace: Workspace, recipe: DistilRecipe) -> Path:
    """Return the student's folder before it learns.

    Raises BadInput (`training.not_prunable`, `training.no_such_layer`).
    """
    if "base" in workspace.spec.inputs:
        return workspace.input("base")
    teacher = workspace.input("teacher")
    layout = layout_of(family_of_folder(teacher))
    count = int(json.loads((teacher / "config.json").read_bytes())["num_hidden_layers"])
    made = workspace.scratch / "student"
    made.mkdir()
    write_cut(teacher, made, layout, Cut(layers=tuple(sorted(recipe.keep_layers)) or every_second(count)))
    return made
