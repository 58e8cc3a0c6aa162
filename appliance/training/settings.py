"""The loop's settings as a recipe says them."""

from __future__ import annotations

from appliance.training.loop import LoopSettings
from appliance.training.recipes.base import Recipe
from appliance.training.schedule import Schedule


def loop_settings(recipe: Recipe, *, learning_rate: float, steps: int, seed: int) -> LoopSettings:
    """Return the settings of a run of that many steps."""
    return LoopSettings(
        steps=steps,
        seed=seed,
        schedule=Schedule(
            peak=learning_rate,
            steps=steps,
            warmup_fraction=recipe.warmup_fraction,
            final_fraction=recipe.final_learning_rate_fraction,
            shape=recipe.schedule,
        ),
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        checkpoint_seconds=recipe.checkpoint_seconds,
    )
