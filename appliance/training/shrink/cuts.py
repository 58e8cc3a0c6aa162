"""Which parts leave: a recipe's wishes and measured importance become one cut. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from appliance.kernel.errors import BadInput
from appliance.training.recipes.prune import PruneRecipe
from appliance.training.shrink.importance import Importance, most_important
from appliance.training.shrink.surgery import Cut

_EVEN: Final = 32
"""Channels stay in multiples of this: kernels and quantised blocks want it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How many parts a model has. `groups` 0 where an architecture ties them to its width."""

    layers: int
    channels: int
    groups: int


def plan_cut(recipe: PruneRecipe, parts: Parts, importance: Importance) -> Cut:
    """Return what stays. Raises BadInput `training.nothing_left`, `training.no_such_layer` or `training.heads_tied`."""
    layers = _kept_layers(recipe, parts, importance)
    channels: tuple[tuple[int, ...], ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    if recipe.channels_to_drop:
        count = kept_channels(parts.channels, recipe.channels_to_drop)
        channels = tuple(most_important(importance.channels[layer], count) for layer in layers)
    if recipe.drop_groups:
        if not parts.groups:
            raise BadInput(
                "training.heads_tied",
                "This architecture ties its attention heads to its width, so none of them can leave.",
                hint="Use drop_layers or drop_channels; drop_groups is for Llama-like models.",
            )
        if recipe.drop_groups >= parts.groups:
            raise _nothing_left("key-value groups", parts.groups, recipe.drop_groups)
        count = parts.groups - recipe.drop_groups
        groups = tuple(most_important(importance.groups[layer], count) for layer in layers)
    return Cut(layers=layers, channels=channels, groups=groups)


def kept_channels(count: int, dropped: float) -> int:
    """Return how many of a layer's channels stay: no fewer than asked for, in even blocks where there are some."""
    wanted = max(1, round(count * (1 - dropped)))
    return min(count, -(-wanted // _EVEN) * _EVEN) if count >= 2 * _EVEN else wanted


def every_second(layers: int) -> tuple[int, ...]:
    """Return half of a model's layers, its first and its last among them."""
    count = max(1, -(-layers // 2))
    if count == 1:
        return (0,)
    return tuple(round(place * (layers - 1) / (count - 1)) for place in range(count))


def _kept_layers(recipe: PruneRecipe, parts: Parts, importance: Importance) -> tuple[int, ...]:
    if recipe.keep_layers:
        beyond = [layer for layer in recipe.keep_layers if layer >= parts.layers]
        if beyond:
            raise BadInput(
                "training.no_such_layer",
                f"The model has {parts.layers} layers, 0 to {parts.layers - 1}; there is no layer {beyond[0]}.",
                hint="Correct keep_layers.",
            )
        return tuple(sorted(recipe.keep_layers))
    if recipe.drop_layers >= parts.layers:
        raise _nothing_left("layers", parts.layers, recipe.drop_layers)
    if not recipe.drop_layers:
        return tuple(range(parts.layers))
    return most_important(torch.tensor(importance.layers), parts.layers - recipe.drop_layers)


def _nothing_left(what: str, count: int, dropped: int) -> BadInput:
    return BadInput(
        "training.nothing_left",
        f"The model has {count} {what}; {dropped} cannot leave.",
        hint="At least one must stay.",
    )
