"""Rows of an encoder's training part that choose when to stop: apart from those learned, the same for the same seed."""

from __future__ import annotations

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.encoders.validation import rows_to_learn
from appliance.training.recipes.classify import ClassifyRecipe

LENGTHS = [(row * 7) % 23 + 1 for row in range(50)]


def _divide(recipe: ClassifyRecipe, *, seed: int = 3) -> tuple[list[int], list[int]]:
    rows = rows_to_learn(recipe, LENGTHS, list, seed=seed)
    learned = [
        row for step in range(rows.sampler.steps_per_epoch) for batch in rows.sampler.batches(step) for row in batch
    ]
    return sorted(learned), sorted(row for batch in rows.validation for row in batch)


def test_without_measurements_every_row_is_learned() -> None:
    assert _divide(ClassifyRecipe(batch_size=4)) == (list(range(50)), [])


def test_rows_set_aside_are_not_learned_and_seed_alone_decides_which() -> None:
    recipe = ClassifyRecipe(batch_size=4, evaluate_every=2, validation_fraction=0.21)
    learned, aside = _divide(recipe)
    assert len(aside) == 11
    assert sorted(learned + aside) == list(range(50))
    assert _divide(recipe) == (learned, aside)
    assert _divide(recipe, seed=4)[1] != aside


def test_nothing_left_to_learn_is_refused() -> None:
    with pytest.raises(BadInput, match="none is left to learn from") as refused:
        rows_to_learn(ClassifyRecipe(evaluate_every=1, validation_fraction=0.9), [3], list, seed=0)
    assert refused.value.code == "training.too_few_rows"
