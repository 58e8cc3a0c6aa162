"""Checks before a training job is queued that its memory will be there; refuses with proposals when it will not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil

from appliance.jobs.spec import InputRef
from appliance.services.context import Context
from appliance.training.encoders.plan import encoder_memory, shrinking_memory
from appliance.training.plan import MemoryPlan, ModelShape, plan_memory, shape_of_folder, shape_of_seed
from appliance.training.recipes.base import Recipe
from appliance.training.recipes.classify import ClassifyRecipe
from appliance.training.recipes.distil import DistilRecipe
from appliance.training.recipes.prune import PruneRecipe
from appliance.training.recipes.seed import SeedRecipe
from appliance.training.recipes.tag import TagRecipe
from appliance.weights.families import ENCODERS, family_of_folder, require_encoder

_KEPT_FREE = 20
"""One part in so many of the box's memory that no job is planned into."""


def memory_plan(ctx: Context, inputs: dict[str, InputRef], recipe: Recipe) -> MemoryPlan:
    """Predict a run's memory from the headers of its base model.

    What running engines hold is not free; they keep it, and a part of the box stays free for what they still need.
    """
    memory = psutil.virtual_memory()
    available = max(0, memory.available - memory.total // _KEPT_FREE)
    if isinstance(recipe, SeedRecipe):
        return plan_memory(shape_of_seed(recipe), recipe.load(), available=available)
    if isinstance(recipe, ClassifyRecipe | TagRecipe):
        shape, family = _base(ctx, inputs["base"])
        require_encoder(family)
        return encoder_memory(shape, recipe.load(), available=available)
    if isinstance(recipe, PruneRecipe | DistilRecipe):
        shape, family = _base(ctx, inputs["teacher"] if isinstance(recipe, DistilRecipe) else inputs["base"])
        return shrinking_memory(
            shape,
            recipe.load(),
            trained=isinstance(recipe, DistilRecipe),
            encodes=family in ENCODERS,
            available=available,
        )
    return plan_memory(_base(ctx, inputs["base"])[0], recipe.load(), available=available)


def _base(ctx: Context, base: InputRef) -> tuple[ModelShape, str]:
    """Return the sizes of a model and its architecture."""
    with tempfile.TemporaryDirectory(dir=ctx.appliance.paths.run) as folder:
        ctx.appliance.blobs.link_folder(base.files, Path(folder) / "base")
        return shape_of_folder(Path(folder) / "base"), family_of_folder(Path(folder) / "base")
