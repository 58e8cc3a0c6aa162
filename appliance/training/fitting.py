"""Fits a model by a recipe: brings recipe, loop, measurements on held-out data and the memory watch together.

What a task of training has to say is which model, which rows and which loss; the rest is here once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from appliance.training.checkpoint import CheckpointStore
from appliance.training.conversations import Conversations
from appliance.training.loop import LoopResult, LoopSettings, Measuring, Sampler, Supervision, train
from appliance.training.memory_watch import MemoryWatch, Sized
from appliance.training.objective import NextToken, Objective, mean_loss
from appliance.training.recipes.base import OnBase, Recipe
from appliance.training.sampler import Batch, ChatSampler, in_batches
from appliance.training.schedule import Schedule

S = TypeVar("S", bound=Sized)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Generic[S]):
    """What is fitted to what. Nothing is in `validation` unless the recipe measures; `heldout` may be empty too."""

    model: Any
    sampler: Sampler[S]
    objective: Objective[S]
    validation: Sequence[S]
    heldout: Sequence[S]
    steps: int


def next_tokens(
    model: Any, rows: Conversations, recipe: OnBase, *, epochs: int, seed: int, padding: int
) -> Work[Batch]:
    """Return the work of learning each next token of the rows."""
    sampler = ChatSampler(
        rows.training, seed=seed, batch_size=recipe.batch_size, accumulation=recipe.accumulation, padding=padding
    )
    return Work(
        model=model,
        sampler=sampler,
        objective=NextToken(),
        validation=in_batches(rows.validation, batch_size=recipe.batch_size, padding=padding),
        heldout=in_batches(rows.heldout, batch_size=recipe.batch_size, padding=padding),
        steps=epochs * sampler.steps_per_epoch,
    )


def fit(
    work: Work[S], recipe: OnBase, *, seed: int, store: CheckpointStore, supervision: Supervision, watch: MemoryWatch
) -> LoopResult:
    """Train to the end, or until the supervision asks to stop. Raises what the loop raises, and `training.memory`."""
    watched = replace(supervision, after_step=watch.after_step)
    measuring = None
    if work.validation:
        measuring = Measuring(
            every=recipe.evaluate_every,
            patience=recipe.patience,
            measure=lambda: mean_loss(work.model, work.validation, work.objective),
        )
    return train(
        work.model,
        _Watched(work.sampler, watch),
        settings_of(recipe, steps=work.steps, seed=seed),
        store,
        watched,
        objective=work.objective,
        measuring=measuring,
    )


def settings_of(recipe: Recipe, *, steps: int, seed: int) -> LoopSettings:
    """Return the loop's part of a recipe."""
    return LoopSettings(
        steps=steps,
        seed=seed,
        schedule=Schedule(
            peak=recipe.learning_rate,
            steps=steps,
            warmup_fraction=recipe.warmup_fraction,
            final_fraction=recipe.final_learning_rate_fraction,
            shape=recipe.schedule,
        ),
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        checkpoint_seconds=recipe.checkpoint_seconds,
        half_precision=recipe.half_precision,
    )


class _Watched(Generic[S]):
    """A sampler that tells the memory watch what it hands out."""

    def __init__(self, sampler: Sampler[S], watch: MemoryWatch) -> None:
        self._sampler = sampler
        self._watch = watch

    def batches(self, step: int) -> Sequence[S]:
        """Return the batches of a step."""
        found = self._sampler.batches(step)
        self._watch.note(found)
        return found
