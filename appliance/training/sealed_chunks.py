"""Work that is done once for every row, chunk by chunk, each chunk sealed: an interrupted job computes none twice.

Used for the vectors of a frozen encoder and for a teacher's answers. A chunk is a pure function of its number, so what
was sealed before a crash and what is computed after it fit together to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from appliance.kernel.events import Note, Progress
from appliance.training.checkpoint import Checkpoint, CheckpointStore
from appliance.training.loop import Supervision

Chunk = dict[str, Tensor]


class Stopped(Exception):
    """Whoever supervises asked to stop; what was sealed stays."""


def sealed_chunks(
    directory: Path,
    name: str,
    *,
    supervision: Supervision,
    fingerprint: str,
    count: int,
    compute: Callable[[int], Chunk],
    share: tuple[float, float],
) -> list[Chunk]:
    """Return every chunk in order, from its seal where there is a valid one. Raises Stopped, StorageFailure.

    Chunks lie in the folder `name` below `directory`; `share` is where in the job's progress this work begins and ends.
    """
    found: list[Chunk] = []
    known = 0
    for number in range(count):
        folder = directory / name / f"chunk-{number:05d}"
        store = CheckpointStore(folder, fingerprint=f"{fingerprint}/{name}/{number}")
        sealed, skipped = store.newest()
        for event in skipped:
            supervision.emit(event)
        if sealed is None:
            if supervision.stop_requested():
                raise Stopped
            chunk = compute(number)
            store.save(Checkpoint(step=1, tensors=chunk, state={}))
        else:
            known += 1
            # Copied, so that computed and reread numbers lie in memory of the same alignment.
            chunk = {key: torch.empty_like(value).copy_(value) for key, value in sealed.tensors.items()}
        found.append(chunk)
        done = share[0] + (share[1] - share[0]) * (number + 1) / count
        supervision.emit(Progress(phase=name, fraction=done, step=number + 1, steps=count))
    if known:
        supervision.emit(Note(text=f"{known} of {count} parts of the {name} had been computed before."))
    return found


def by_length(lengths: Sequence[int], *, size: int) -> list[list[int]]:
    """Return the rows' numbers in chunks of similar length: little is lost to padding."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    return [order[start : start + size] for start in range(0, len(order), size)]
