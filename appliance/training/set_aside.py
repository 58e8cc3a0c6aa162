"""Which training rows are learned from, and which are set aside to choose the best weights and to say when to stop.

Held-out rows judge the result, so they may not choose it. A pure function of recipe and seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from appliance.kernel.errors import BadInput
from appliance.training.recipes.base import Measured
from appliance.training.runtime import derive_seed

R = TypeVar("R")


def divided(rows: Sequence[R], recipe: Measured, *, seed: int) -> tuple[list[R], list[R]]:
    """Return the rows that are learned from and those set aside, both in their order.

    Raises BadInput `training.too_few_rows` when nothing would be left to learn from.
    """
    count = recipe.set_aside(len(rows))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(derive_seed(seed, "validation")))
    aside = frozenset(order[:count].tolist())
    if count == len(rows):
        raise BadInput(
            "training.too_few_rows",
            f"With {count} of {len(rows)} training rows set aside, none is left to learn from.",
            hint="Set validation_fraction lower, or evaluate_every to 0.",
        )
    return [row for at, row in enumerate(rows) if at not in aside], [rows[at] for at in sorted(aside)]
