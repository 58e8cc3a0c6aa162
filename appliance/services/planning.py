"""Checks before a training job is queued that its memory will be there; refuses with proposals when it will not."""

from __future__ import annotations

from appliance.jobs.spec import InputRef, JobKind
from appliance.services.context import Context
from appliance.training.recipe import Recipe


def check_plan(ctx: Context, kind: JobKind, inputs: dict[str, InputRef], recipe: Recipe) -> None:
    """Raise Unavailable (`training.memory`) with smaller settings when the run would not fit in memory."""
