"""What an encoder or a classifier says of many texts: computed by length, vectors sealed chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.events import Progress
from appliance.training.sealed_chunks import by_length, sealed_chunks
from appliance.weights.encoder import LoadedEncoder, TextClassifier, padded, unit_mean

BATCH: Final = 64
_CHUNK: Final = 1024
Rows = Sequence[Sequence[int]]
Numbers = npt.NDArray[np.float32]


def frozen_vectors(
    workspace: Workspace, loaded: LoadedEncoder, encoded: Rows, *, fingerprint: str, share: tuple[float, float]
) -> Numbers:
    """Return one vector for each text (float32, texts x hidden). Raises Interrupted."""
    chunks = by_length([len(row) for row in encoded], size=_CHUNK)

    def compute(number: int) -> dict[str, Tensor]:
        rows = [encoded[row] for row in chunks[number]]
        with torch.inference_mode():
            parts = [
                unit_mean(loaded.model, *padded(rows[start : start + BATCH], padding=loaded.padding))
                for start in range(0, len(rows), BATCH)
            ]
        return {"vectors": torch.cat(parts)}

    found = sealed_chunks(
        workspace, "vectors", fingerprint=fingerprint, count=len(chunks), compute=compute, share=share
    )
    vectors = np.zeros((len(encoded), loaded.hidden), np.float32)
    for chunk, part in zip(chunks, found, strict=True):
        vectors[chunk] = part["vectors"].numpy()
    return vectors


def scores_of(
    workspace: Workspace,
    classifier: TextClassifier,
    encoded: Rows,
    *,
    padding: int,
    phase: str,
    share: tuple[float, float],
) -> Numbers:
    """Return a classifier's scores (logits, texts x labels). Raises Interrupted."""
    classifier.eval()
    found = np.zeros((len(encoded), classifier.head.out_features), np.float32)
    batches = by_length([len(row) for row in encoded], size=BATCH)
    for number, batch in enumerate(batches, start=1):
        if workspace.stop_requested():
            raise Interrupted
        with torch.inference_mode():
            found[batch] = classifier(*padded([encoded[row] for row in batch], padding=padding)).numpy()
        done = share[0] + (share[1] - share[0]) * number / len(batches)
        workspace.emit(Progress(phase=phase, fraction=done, step=number, steps=len(batches)))
    return found
