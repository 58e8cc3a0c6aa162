from __future__ import annotations

import mmap
from dataclasses import replace

import pytest
import torch

from appliance.kernel.errors import BadInput
from appliance.kernel.events import Event, Metric, Note
from appliance.training.memory_watch import MemoryWatch, available_memory
from appliance.training.plan import predict, shape_of_seed
from appliance.training.recipes.load import Load
from appliance.training.recipes.seed import SeedRecipe
from appliance.training.runtime import forget_peak_memory, peak_memory
from appliance.training.sampler import Batch

SHAPE = shape_of_seed(SeedRecipe())
LOAD = Load(batch_size=2, accumulation=1, sequence_length=64)


def batch(rows: int, width: int) -> Batch:
    tokens = torch.zeros(rows, width, dtype=torch.int64)
    return Batch(tokens=tokens, labels=tokens)


def test_the_second_step_is_held_against_the_plan_of_its_largest_batch() -> None:
    events: list[Event] = []
    watch = MemoryWatch(SHAPE, LOAD, events.append)
    watch.note([batch(2, 16), batch(1, 64)])
    watch.note([batch(2, 8)])
    watch.after_step(1)
    assert not events
    watch.after_step(2)
    watch.after_step(3)
    error, told = events
    assert isinstance(error, Metric)
    assert isinstance(told, Note)
    expected = predict(SHAPE, replace(LOAD, batch_size=1), available=0).total
    assert watch.figures()["memory_predicted"] == expected
    assert error.value == pytest.approx(peak_memory() / expected - 1, abs=0.05)
    assert "MiB were predicted" in told.text


def test_what_will_not_fit_ends_the_run_while_it_is_cheap() -> None:
    huge = replace(LOAD, batch_size=1 << 20, sequence_length=1 << 14)
    watch = MemoryWatch(SHAPE, huge, lambda _event: None)
    watch.note([batch(2, 16)])
    with pytest.raises(BadInput) as refused:
        watch.after_step(2)
    assert refused.value.code == "training.memory"


def test_the_peak_begins_anew() -> None:
    with mmap.mmap(-1, 1 << 27) as ballast:  # pages that go back to the kernel, as those of a mapped file do
        ballast.write(b"x" * (1 << 27))
        high = peak_memory()
    forget_peak_memory()
    assert peak_memory() < high - (1 << 26)
    assert available_memory() > 0
