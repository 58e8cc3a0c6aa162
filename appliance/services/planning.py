"""Checks before a training job is queued that its memory will be there; refuses with proposals when it will not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil

from appliance.jobs.spec import InputRef
from appliance.services.context import Context
from appliance.training.plan import MemoryPlan, ModelShape, plan_memory, shape_of_folder, shape_of_seed
from appliance.training.recipes.base import Recipe
from appliance.training.recipes.seed import SeedRecipe


def memory_plan(ctx: Context, inputs: dict[str, InputRef], recipe: Recipe) -> MemoryPlan:
    """Predict a run's memory from the headers of its base model.

    What running engines hold is not free; they keep it.
    """
    shape = shape_of_seed(recipe) if isinstance(recipe, SeedRecipe) else _shape_of_base(ctx, inputs["base"])
    return plan_memory(shape, recipe.load(), available=psutil.virtual_memory().available)


def _shape_of_base(ctx: Context, base: InputRef) -> ModelShape:
    with tempfile.TemporaryDirectory(dir=ctx.appliance.paths.run) as folder:
        ctx.appliance.blobs.link_folder(base.files, Path(folder) / "base")
        return shape_of_folder(Path(folder) / "base")
