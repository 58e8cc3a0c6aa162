"""Checks that a training job's memory will be there: before it is queued, and again before it starts.

What other jobs hold is free again when they have ended, so a job is not refused for it: it waits.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from appliance.jobs.spec import InputRef, JobSpec
from appliance.services.context import Context
from appliance.services.fleet import kept_free, least_available, trained_by_rank_hosts
from appliance.training.encoders.plan import encoder_memory, shrinking_memory
from appliance.training.plan import MemoryPlan, ModelShape, plan_memory, shape_of_folder, shape_of_seed
from appliance.training.recipes.base import Recipe
from appliance.training.recipes.classify import ClassifyRecipe
from appliance.training.recipes.distil import DistilRecipe
from appliance.training.recipes.prune import PruneRecipe
from appliance.training.recipes.registry import parse_recipe
from appliance.training.recipes.seed import SeedRecipe
from appliance.training.recipes.tag import TagRecipe
from appliance.training.rows import PARTS
from appliance.weights.families import ENCODERS, family_of_folder

_WORKER: Final = "appliance.jobs.worker"


def plan_of_job(ctx: Context, spec: JobSpec) -> MemoryPlan | None:
    """Predict what a queued job needs beside everything that runs now; None for what is not planned here."""
    if not spec.kind.startswith("train."):
        return None
    recipe = parse_recipe(spec.kind, spec.parameters)
    if trained_by_rank_hosts(ctx, recipe):
        return None  # each box looks at its own memory, and the job waits for it
    return _plan(ctx, spec.inputs, recipe, available=_available_here(freed=0))


def memory_plan(ctx: Context, inputs: dict[str, InputRef], recipe: Recipe) -> MemoryPlan:
    """Predict a run's memory from the headers of its base model, against the box of the run that has least.

    What running engines hold is not free; they keep it, and a part of the box stays free for what they still need.
    What running jobs hold is free by then.
    """
    here = partial(_available_here, freed=held_by_jobs())
    available = least_available(ctx, recipe, here=here) if trained_by_rank_hosts(ctx, recipe) else here()
    return _plan(ctx, inputs, recipe, available=available)


def _available_here(*, freed: int) -> int:
    memory = psutil.virtual_memory()
    return max(0, int(memory.available) + freed - kept_free(memory.total))


def _plan(ctx: Context, inputs: dict[str, InputRef], recipe: Recipe, *, available: int) -> MemoryPlan:
    load = replace(recipe.load(), data=_rows_size(inputs))
    if isinstance(recipe, SeedRecipe):
        return plan_memory(shape_of_seed(recipe), load, available=available)
    if isinstance(recipe, ClassifyRecipe | TagRecipe):
        return encoder_memory(_base(ctx, inputs["base"])[0], load, available=available)
    if isinstance(recipe, PruneRecipe | DistilRecipe):
        shape, family = _base(ctx, inputs["teacher"] if isinstance(recipe, DistilRecipe) else inputs["base"])
        return shrinking_memory(
            shape,
            load,
            trained=isinstance(recipe, DistilRecipe),
            encodes=family in ENCODERS,
            available=available,
        )
    return plan_memory(_base(ctx, inputs["base"])[0], load, available=available)


def _rows_size(inputs: dict[str, InputRef]) -> int:
    """Return the bytes of the rows that a run reads."""
    return sum(file.size for given in inputs.values() for file in given.files if file.path in PARTS)


def _base(ctx: Context, base: InputRef) -> tuple[ModelShape, str]:
    """Return the sizes of a model and its architecture."""
    with tempfile.TemporaryDirectory(dir=ctx.appliance.paths.run) as folder:
        ctx.appliance.blobs.link_folder(base.files, Path(folder) / "base")
        return shape_of_folder(Path(folder) / "base"), family_of_folder(Path(folder) / "base")


def held_by_jobs() -> int:
    """Return the bytes that are free again when every job that this process started has ended."""
    members, held = set[psutil.Process](), 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, or belongs to another user
            if _WORKER in process.cmdline():  # as in that of what starts it in a sandbox: count nobody twice
                members |= {process, *process.children(recursive=True)}
    for member in members:
        with contextlib.suppress(psutil.Error):
            held += int(member.memory_full_info().uss)
    return held
