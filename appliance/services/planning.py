"""Checks before a training job is queued that its memory will be there; refuses with proposals when it will not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil

from appliance.jobs.spec import InputRef
from appliance.services.context import Context
from appliance.training.plan import ModelShape, load_of, plan_memory, shape_of_folder, shape_of_seed
from appliance.training.recipe import Recipe, SeedRecipe


def check_plan(ctx: Context, inputs: dict[str, InputRef], recipe: Recipe) -> None:
    """Raise BadInput (`training.memory`) with smaller settings when the run would not fit in free memory.

    What running engines hold is not free; they keep it.
    """
    shape = shape_of_seed(recipe) if isinstance(recipe, SeedRecipe) else _shape_of_base(ctx, inputs["base"])
    plan_memory(shape, load_of(recipe), available=psutil.virtual_memory().available).require()


def _shape_of_base(ctx: Context, base: InputRef) -> ModelShape:
    with tempfile.TemporaryDirectory(dir=ctx.appliance.paths.run) as folder:
        ctx.appliance.blobs.link_folder(base.files, Path(folder) / "base")
        return shape_of_folder(Path(folder) / "base")
