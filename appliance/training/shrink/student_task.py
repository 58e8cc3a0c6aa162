"""A student that is made of its teacher: some of the layers, everything else as it is."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.training.recipes.distil import DistilRecipe
from appliance.training.shrink.cuts import every_second
from appliance.training.shrink.layout import layout_of
from appliance.training.shrink.surgery import Cut, write_cut
from appliance.weights.families import family_of_folder


def student_from(teacher: Path, scratch: Path, recipe: DistilRecipe) -> Path:
    """Make a student of the teacher's layers below `scratch`; return its folder.

    Raises BadInput (`training.not_prunable`, `training.no_such_layer`).
    """
    layout = layout_of(family_of_folder(teacher))
    count = int(json.loads((teacher / "config.json").read_bytes())["num_hidden_layers"])
    made = scratch / "student"
    made.mkdir()
    write_cut(teacher, made, layout, Cut(layers=tuple(sorted(recipe.keep_layers)) or every_second(count)))
    return made
