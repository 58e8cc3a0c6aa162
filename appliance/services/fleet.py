"""The boxes that train together with this one, and what each has to give."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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

_TIMEOUT: Final = 5.0
"""seconds that a box is given to answer, where a person waits"""
_AT_ONCE: Final = 16
"""boxes that are asked at the same time"""
_KEPT_FREE: Final = 20


def inventory(ctx: Context) -> Inventory | None:
    """Return the inventory of this box's fleet, or None where jobs start their ranks themselves."""
    named = ctx.appliance.settings.fleet
    return read_inventory(Path(named)) if named else None


def list_boxes(ctx: Context) -> tuple[t.FleetBox, ...]:
    """Return every box, this one first, with what its rank host says now."""
    fleet = inventory(ctx)
    if fleet is None:
        return ()
    boxes = [
        t.FleetBox(name=box.name, address=box.address, own=box.name == fleet.own)
        for box in sorted(fleet.boxes, key=lambda box: box.name != fleet.own)
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return tuple(pool.map(partial(_seen, ctx), boxes))


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
    """Return what a box's rank host says. Raises Unavailable when nobody answers within a few seconds."""
    socket = socket_of(Path(ctx.appliance.settings.rank_sockets), box)
    with RankHostClient(box, socket, patience=0.0, timeout=_TIMEOUT) as client:
        return client.facts()


def trained_by_rank_hosts(ctx: Context, recipe: Recipe) -> bool:
    """Tell whether rank hosts train a run, or the job itself. Raises Unavailable for boxes without a fleet."""
    if not isinstance(recipe, FullRecipe) or not (recipe.boxes or recipe.ranks > 1):
        return False
    if not ctx.appliance.settings.fleet and recipe.boxes:
        raise no_fleet()
    return bool(ctx.appliance.settings.fleet)


def least_available(ctx: Context, recipe: Recipe, *, here: Callable[[], int]) -> int:
    """Return the least memory that a box of a run has, or will have when what trains there has ended.

    Raises BadInput for a box that there is not, and Unavailable for one that does not answer.
    """
    fleet = inventory(ctx)
    if fleet is None or not isinstance(recipe, FullRecipe):
        return here()
    found = []
    for box in [fleet.box(name) for name in recipe.boxes or (fleet.own,)]:
        facts = ask(ctx, box.name)
        free = here() if box.name == fleet.own else facts.memory_available - kept_free(facts.memory)
        found.append(free + facts.held)
    return max(0, min(found))


def kept_free(memory: int) -> int:
    """Return the part of a box's memory that no job is planned into."""
    return memory // _KEPT_FREE
