"""The boxes that train together with this one, and what each has to give."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from appliance.api import types as t
from appliance.fleet.client import RankHostClient
from appliance.fleet.inventory import Inventory, no_fleet, read_inventory, socket_of
from appliance.fleet.wire import BoxFacts
from appliance.kernel.errors import IntramurosError
from appliance.services.context import Context
from appliance.training.recipes.base import Recipe
from appliance.training.recipes.full import FullRecipe

_PATIENCE: Final = 0.0
"""seconds that a box is given to answer beyond its first try, where a person waits"""


def inventory(ctx: Context) -> Inventory | None:
    """Return the inventory of this box's fleet, or None where jobs start their ranks themselves."""
    named = ctx.appliance.settings.fleet
    return read_inventory(Path(named)) if named else None


def list_boxes(ctx: Context) -> tuple[t.FleetBox, ...]:
    """Return every box, this one first, with what its rank host says now."""
    fleet = inventory(ctx)
    if fleet is None:
        return ()
    return tuple(
        _seen(ctx, t.FleetBox(name=box.name, address=box.address, own=box.name == fleet.own))
        for box in sorted(fleet.boxes, key=lambda box: box.name != fleet.own)
    )


def _seen(ctx: Context, box: t.FleetBox) -> t.FleetBox:
    """Return a box with what its rank host says, or why it says nothing."""
    try:
        facts = ask(ctx, box.name)
    except IntramurosError as error:
        return msgspec.structs.replace(box, problem=error.message)
    return msgspec.structs.replace(
        box,
        reachable=True,
        same_version=facts.code == ctx.appliance.code_digest,
        version=facts.version,
        cpu=facts.cpu,
        threads=facts.threads,
        memory=facts.memory,
        memory_available=facts.memory_available,
        running=facts.running,
    )


def ask(ctx: Context, box: str) -> BoxFacts:
    """Return what a box's rank host says. Raises Unavailable when nobody answers."""
    with RankHostClient(box, socket_of(Path(ctx.appliance.settings.rank_sockets), box), patience=_PATIENCE) as client:
        return client.facts()


def trains_here(ctx: Context, recipe: Recipe) -> bool:
    """Tell whether this box computes for a run, or others alone do."""
    if not isinstance(recipe, FullRecipe) or not recipe.boxes:
        return True
    fleet = inventory(ctx)
    return fleet is None or fleet.own in recipe.boxes


def available_elsewhere(ctx: Context, recipe: Recipe) -> int | None:
    """Return the least memory that another box of a run has available; None when it has none but this one.

    Raises BadInput for a box that there is not, and Unavailable for one that does not answer, or without a fleet.
    """
    if not isinstance(recipe, FullRecipe) or not recipe.boxes:
        return None
    fleet = inventory(ctx)
    if fleet is None:
        raise no_fleet()
    others = [fleet.box(name).name for name in recipe.boxes if fleet.box(name).name != fleet.own]
    return min((ask(ctx, name).memory_available for name in others), default=None)
