"""Work that is done once for every row, chunk by chunk, each chunk sealed: an interrupted job computes none twice.

Used for the vectors of a frozen encoder and for a teacher's answers. A chunk is a pure function of its number, so what
was sealed before a crash and what is computed after it fit together to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.events import Progress
from appliance.training.checkpoint import Checkpoint, CheckpointStore

Chunk = dict[str, Tensor]


def sealed_chunks(
    workspace: Workspace,
    name: str,
    *,
    fingerprint: str,
    count: int,
    compute: Callable[[int], Chunk],
    share: tuple[float, float],
) -> list[Chunk]:
    """Return every chunk in order, from its seal where there is a valid one. Raises Interrupted, StorageFailure.

    `share` is where in the job's progress this work begins and ends.
    """
    found: list[Chunk] = []
    for number in range(count):
        folder = workspace.checkpoints / name / f"chunk-{number:05d}"
        store = CheckpointStore(folder, fingerprint=f"{fingerprint}/{name}/{number}")
        sealed, skipped = store.newest()
        for event in skipped:
            workspace.emit(event)
        if sealed is None:
            if workspace.stop_requested():
                raise Interrupted
            chunk = compute(number)
            store.save(Checkpoint(step=1, tensors=chunk, state={}))
        else:
            # Copied, so that computed and reread numbers lie in memory of the same alignment.
            chunk = {key: torch.empty_like(value).copy_(value) for key, value in sealed.tensors.items()}
        found.append(chunk)
        done = share[0] + (share[1] - share[0]) * (number + 1) / count
        workspace.emit(Progress(phase=name, fraction=done, step=number + 1, steps=count))
    return found


def by_length(lengths: Sequence[int], *, size: int) -> list[list[int]]:
    """Return the rows' numbers in chunks of similar length: little is lost to padding."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    return [order[start : start + size] for start in range(0, len(order), size)]
