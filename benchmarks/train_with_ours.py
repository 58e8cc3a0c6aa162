"""One side of the training benchmark: our loop. `python -m benchmarks.train_with_ours CASE_FOLDER THREADS`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from appliance.kernel.events import Event, Progress
from appliance.training.checkpoint import CheckpointStore
from appliance.training.loop import LoopSettings, Supervision, train
from appliance.training.objective import NextToken
from appliance.training.runtime import prepare
from appliance.training.sampler import Batch
from appliance.training.schedule import Schedule
from benchmarks import training_case as case


class _Rows:
    """The case's rows, batch by batch."""

    def __init__(self, rows: list[list[int]]) -> None:
        self._rows = torch.tensor(rows)

    def batches(self, step: int) -> Sequence[Batch]:
        tokens = self._rows[step * case.BATCH_SIZE : (step + 1) * case.BATCH_SIZE]
        return [Batch(tokens=tokens, labels=tokens)]


def main(folder: Path, threads: int) -> None:
    """Train and print losses and CPU time."""
    prepare(threads=threads, device="cpu")
    given = case.Case(folder)
    model, sampler = given.load_model(), _Rows(given.rows())
    losses: list[float] = []

    def record(event: Event) -> None:
        if isinstance(event, Progress) and event.loss is not None:
            losses.append(event.loss)

    settings = LoopSettings(
        steps=case.STEPS,
        seed=0,
        schedule=Schedule(peak=case.LEARNING_RATE, steps=case.STEPS, warmup_fraction=0.0, final_fraction=1.0),
        weight_decay=0.0,
        clip_norm=case.CLIP_NORM,
        checkpoint_seconds=3600.0,
    )
    with tempfile.TemporaryDirectory() as scratch:
        store = CheckpointStore(Path(scratch), fingerprint="benchmark")
        begun, cpu = time.monotonic(), time.process_time()
        train(
            model,
            sampler,
            settings,
            store,
            Supervision(emit=record, stop_requested=lambda: False),
            objective=NextToken(),
        )
        wall, cpu = time.monotonic() - begun, time.process_time() - cpu
    print(case.report(losses=losses, cpu_seconds=cpu, wall_seconds=wall))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
