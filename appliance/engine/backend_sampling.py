"""Lets llama.cpp draw tokens where it computes the model: a graphics card then sends a token, not a row of logits.

Owns the chains that are attached to the context, one per slot. Attaching one makes llama.cpp reserve its graph again,
which takes milliseconds, so a slot keeps its chain while requests that draw alike follow each other. Who needs rows of
logits (a grammar, penalties, a seed, log-probabilities) gets them: its slot has no chain then. So does a request once
guesses for it are checked. Invariant: a chain draws one row a step. llama.cpp reserves the graph for one row of every
chain and keeps that plan of its memory while numbers and sizes of tensors stay; with more rows it makes a plan for the
chains of that step, which gives away, and overwrites, what chains that were idle in it draw in a later one.
"""

from __future__ import annotations

from typing import Any

import llama_cpp

from appliance.engine.sampling import Recipe, Sampler


class BackendSampling:
    """The chains of one context (a handle of llama.cpp), of the thread that computes with it."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._chains: dict[int, tuple[Recipe, Any]] = {}

    def prepare(self, slot: int, sampler: Sampler, *, rows: int) -> None:
        """See to it before a step that the slot's next tokens, of so many rows, are drawn as `sampler` wants them."""
        if rows > 1:
            sampler.recipe = None
        attached = self._chains.get(slot)
        if attached is None or attached[0] != sampler.recipe:
            attached = self._exchange(slot, sampler.recipe)
        sampler.draw_from(attached[1] if attached else None)

    def _exchange(self, slot: int, recipe: Recipe | None) -> tuple[Recipe, Any] | None:
        former = self._chains.pop(slot, None)
        if recipe is None:
            if former:
                llama_cpp.llama_set_sampler(self._context, slot, None)
        else:
            chain = recipe.chain()
            self._chains[slot] = (recipe, chain)
            llama_cpp.llama_set_sampler(self._context, slot, chain)
        if former:
            llama_cpp.llama_sampler_free(former[1])
        return self._chains.get(slot)
