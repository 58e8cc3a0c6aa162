"""One side of the training benchmark: our loop. `python -m benchmarks.train_with_ours CASE_FOLDER THREADS`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from appliance.kernel.events import Event, Progress
from appliance.training.chat import Preference
from appliance.training.checkpoint import CheckpointStore
from appliance.training.loop import LoopSettings, Supervision, train
from appliance.training.objective import NextToken
from appliance.training.preference import DirectPreference, PairBatch, collate, referenced
from appliance.training.runtime import prepare
from appliance.training.sampler import IGNORED, Batch, Example
from appliance.training.schedule import Schedule
from appliance.weights.products import with_fast_products
from appliance.weights.token_ids import int32
from benchmarks import training_case as case


class _Rows:
    """The case's rows, batch by batch."""

    def __init__(self, rows: list[list[int]], batch_size: int) -> None:
        self._rows = torch.tensor(rows)
        self._batch_size = batch_size

    def batches(self, step: int) -> Sequence[Batch]:
        tokens = self._rows[step * self._batch_size : (step + 1) * self._batch_size]
        return [Batch(tokens=tokens, labels=tokens)]


class _Pairs:
    """The case's pairs, batch by batch, with the reference's figures."""

    def __init__(self, model: Any, rows: list[dict[str, list[int]]], batch_size: int, folder: Path) -> None:
        pairs = [Preference(chosen=_example(row, "chosen_ids"), rejected=_example(row, "rejected_ids")) for row in rows]
        self._rows = referenced(
            model,
            pairs,
            batch_size=batch_size,
            padding=2,
            directory=folder,
            fingerprint="",
            on_batch=lambda _share: None,
        )
        self._batch_size = batch_size

    def batches(self, step: int) -> Sequence[PairBatch]:
        return [collate(self._rows[step * self._batch_size : (step + 1) * self._batch_size], padding=2)]


def main(folder: Path, threads: int) -> None:
    """Train and print losses and CPU time."""
    prepare(threads=threads, device="cpu")
    given = case.Case(folder)
    load = given.load
    model = with_fast_products(given.load_model())  # as our own loader does
    losses: list[float] = []
    tokens = 0

    def record(event: Event) -> None:
        if isinstance(event, Progress) and event.loss is not None:
            losses.append(event.loss)

    settings = LoopSettings(
        steps=load.steps,
        seed=0,
        schedule=Schedule(peak=case.LEARNING_RATE, steps=load.steps, warmup_fraction=0.0, final_fraction=1.0),
        weight_decay=0.0,
        clip_norm=case.CLIP_NORM,
        checkpoint_seconds=3600.0,
    )
    supervision = Supervision(emit=record, stop_requested=lambda: False)
    with tempfile.TemporaryDirectory() as scratch:
        store = CheckpointStore(Path(scratch) / "steps", fingerprint="benchmark")
        # Both sides' clocks leave out the reference's figures and include the writing of the last state.
        pairs: _Pairs | None = None
        if load.method == "dpo":
            pairs = _Pairs(model, given.rows(), load.batch_size, Path(scratch))
        begun, cpu = time.monotonic(), time.process_time()
        if pairs is not None:
            objective = DirectPreference(beta=case.BETA, label_smoothing=0.0)
            tokens = train(model, pairs, settings, store, supervision, objective=objective).tokens
        else:
            rows = _Rows(given.rows(), load.batch_size)
            tokens = train(model, rows, settings, store, supervision, objective=NextToken()).tokens
        wall, cpu = time.monotonic() - begun, time.process_time() - cpu
    print(case.report(losses=losses, tokens=tokens, cpu_seconds=cpu, wall_seconds=wall))


def _example(row: dict[str, list[int]], answer: str) -> Example:
    prompt, said = row["prompt_ids"], row[answer]
    return Example(tokens=int32((*prompt, *said)), labels=int32((*[IGNORED] * len(prompt), *said)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
