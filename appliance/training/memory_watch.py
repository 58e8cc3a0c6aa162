"""Holds a running job against its memory plan: measures the first steps, tells how far the plan was off, corrects it.

The first two steps show what the arithmetic could not know of this machine. What they needed more or less than the
plan said is carried over to the longest batch still to come; where that no longer fits, the job ends before it has
been the kernel's choice whom to kill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeVar

import psutil
from torch import Tensor

from appliance.kernel.events import Event, Metric, Note
from appliance.training.plan import MemoryPlan, ModelShape, plan_memory, predict
from appliance.training.recipes.load import Load
from appliance.training.runtime import forget_peak_memory, peak_memory

_WARM: Final = 2
"""Steps after which every buffer of a step has been allocated once."""
_MIB: Final = 1 << 20


class Sized(Protocol):
    """A batch, as far as its size goes: batch x time."""

    @property
    def tokens(self) -> Tensor: ...


S = TypeVar("S", bound=Sized)


class MemoryWatch:
    """One attempt of one job. `load` is that of the recipe, at the longest sequence that its rows really have."""

    def __init__(
        self,
        shape: ModelShape,
        load: Load,
        emit: Callable[[Event], None],
        *,
        measure: Callable[[], int] = peak_memory,
        available: int | None = None,
    ) -> None:
        """`measure` gives the peak of all of the job's processes, `available` the bytes that they may have together.

        Of several ranks every one watches, and all have to be given the same numbers.
        """
        self._shape = shape
        self._measure = measure
        self._load = load
        self._emit = emit
        self._largest = (0, 0)
        forget_peak_memory()
        self._whole = plan_memory(shape, load, available=available_memory() if available is None else available)

    @property
    def plan(self) -> MemoryPlan:
        """The plan of the whole run."""
        return self._whole

    def note(self, batches: Sequence[S]) -> None:
        """Remember the largest batch so far."""
        for batch in batches:
            rows, width = batch.tokens.shape
            if rows * width > self._largest[0] * self._largest[1]:
                self._largest = (rows, width)

    def after_step(self, laps: int) -> None:
        """Compare after the first steps. Raises BadInput (`training.memory`) when the rest would not fit."""
        if laps != _WARM:
            return
        measured, expected = self._measure(), self._expected().training
        off = measured / expected - 1
        self._emit(Metric(name="memory_error", value=off))
        self._emit(
            Note(
                text=f"The first steps took {measured / _MIB:.0f} MiB of memory at their peak; "
                f"{expected / _MIB:.0f} MiB were predicted ({off:+.1%})."
            )
        )
        corrected = plan_memory(
            self._shape,
            self._load,
            # What the plan forgot is missing from what is there.
            available=self._whole.available - (measured - expected),
        )
        corrected.require()

    def figures(self) -> dict[str, float]:
        """Return what was predicted for the largest batch that was computed, and the measured peak, in bytes."""
        measured, expected = self._measure(), self._expected().training
        return {
            "memory_predicted": expected,
            "memory_measured": measured,
            "memory_error": round(measured / expected - 1, 4),
        }

    def _expected(self) -> MemoryPlan:
        rows, width = self._largest
        computed = replace(self._load, batch_size=max(1, rows // self._load.copies), sequence_length=max(1, width))
        return predict(self._shape, computed, available=0)


def available_memory() -> int:
    """Return the bytes that this process may still take, with those it has."""
    mine: int = psutil.Process().memory_info().rss
    return int(psutil.virtual_memory().available) + mine
