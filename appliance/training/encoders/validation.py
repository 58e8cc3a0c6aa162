"""The rows of an encoder's training part in batches: those that are learned from, and those set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from appliance.training.encoders.batches import RowSampler
from appliance.training.loop import Measuring
from appliance.training.objective import Objective, mean_loss
from appliance.training.recipes.base import Measured
from appliance.training.sealed_chunks import by_length
from appliance.training.set_aside import divided

B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedRows(Generic[B]):
    """The sampler of the rows that are learned, and batches of those set aside: none unless the recipe measures."""

    sampler: RowSampler[B]
    validation: tuple[B, ...]

    def measuring(self, recipe: Measured, model: Any, objective: Objective[B]) -> Measuring | None:
        """Return what the loop measures on the way."""
        if not self.validation:
            return None
        return Measuring(
            every=recipe.evaluate_every,
            patience=recipe.patience,
            measure=lambda: mean_loss(model, self.validation, objective),
        )


def rows_to_learn(
    recipe: Measured, lengths: Sequence[int], build: Callable[[Sequence[int]], B], *, seed: int
) -> LearnedRows[B]:
    """Divide the rows, whose `lengths` are given; `build` makes a batch of the rows with some numbers.

    Raises BadInput `training.too_few_rows` when nothing would be left to learn from.
    """
    learned, kept = divided(range(len(lengths)), recipe, seed=seed)
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
