"""Which training rows of an encoder are learned from, and which are set aside to say when to stop.

Held-out rows judge the result, so they may not choose it. Pure of state: seed and recipe decide which rows are which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from appliance.kernel.errors import BadInput
from appliance.training.encoders.batches import RowSampler
from appliance.training.loop import Measuring
from appliance.training.objective import Objective, mean_loss
from appliance.training.recipes.base import OnEncoder
from appliance.training.runtime import derive_seed
from appliance.training.sealed_chunks import by_length

B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedRows(Generic[B]):
    """The sampler of the rows that are learned, and batches of those set aside: none unless the recipe measures."""

    sampler: RowSampler[B]
    validation: tuple[B, ...]

    def measuring(self, recipe: OnEncoder, model: Any, objective: Objective[B]) -> Measuring | None:
        """Return what the loop measures on the way."""
        if not self.validation:
            return None
        return Measuring(
            every=recipe.evaluate_every,
            patience=recipe.patience,
            measure=lambda: mean_loss(model, self.validation, objective),
        )


def rows_to_learn(
    recipe: OnEncoder, lengths: Sequence[int], build: Callable[[Sequence[int]], B], *, seed: int
) -> LearnedRows[B]:
    """Divide the rows, whose `lengths` are given; `build` makes a batch of the rows with some numbers.

    Raises BadInput `training.too_few_rows` when nothing would be left to learn from.
    """
    aside: frozenset[int] = frozenset()
    if recipe.evaluate_every:
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(derive_seed(seed, "validation")))
        aside = frozenset(order[: math.ceil(recipe.validation_fraction * len(lengths))].tolist())
    learned = [row for row in range(len(lengths)) if row not in aside]
    if not learned:
        raise BadInput(
            "training.too_few_rows",
            f"With {len(aside)} of {len(lengths)} training rows set aside, none is left to learn from.",
            hint="Set validation_fraction lower, or evaluate_every to 0.",
        )
    kept = sorted(aside)
    groups = by_length([lengths[row] for row in kept], size=recipe.batch_size)
    return LearnedRows(
        sampler=RowSampler(
            [lengths[row] for row in learned],
            lambda rows: build([learned[row] for row in rows]),
            seed=seed,
            batch_size=recipe.batch_size,
            accumulation=recipe.accumulation,
        ),
        validation=tuple(build([kept[place] for place in group]) for group in groups),
    )
