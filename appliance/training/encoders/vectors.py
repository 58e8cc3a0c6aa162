"""What an encoder or a classifier says of many texts: computed by length, vectors sealed chunk by chunk."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from appliance.kernel.events import Progress
from appliance.training.loop import Supervision
from appliance.training.sealed_chunks import Stopped, by_length, sealed_chunks
from appliance.weights.encoder import LoadedEncoder, TextClassifier, padded, unit_mean
from appliance.weights.token_ids import once_each, rows_digest

BATCH: Final = 64
_CHUNK: Final = 1024
Rows = Sequence[Sequence[int]]
Numbers = npt.NDArray[np.float32]


def frozen_vectors(
    loaded: LoadedEncoder,
    encoded: Sequence[array[int]],
    *,
    directory: Path,
    fingerprint: str,
    supervision: Supervision,
    share: tuple[float, float],
) -> Numbers:
    """Return one vector for each text (float32, texts x hidden). Raises Stopped.

    The order of the texts and their division into parts change nothing, so folds of one data set share the work.
    """
    firsts, places = once_each([(len(row), row.tobytes()) for row in encoded])
    unique = [encoded[at] for at in firsts]
    chunks = [unique[start : start + _CHUNK] for start in range(0, len(unique), _CHUNK)]

    def compute(number: int) -> dict[str, Tensor]:
        rows = chunks[number]
        with torch.inference_mode():
            parts = [
                unit_mean(loaded.model, *padded(rows[start : start + BATCH], padding=loaded.padding))
                for start in range(0, len(rows), BATCH)
            ]
        return {"vectors": torch.cat(parts)}

    found = sealed_chunks(
        directory,
        "vectors",
        supervision=supervision,
        fingerprint=f"{fingerprint}/{rows_digest(unique)}",
        count=len(chunks),
        compute=compute,
        share=share,
    )
    vectors: Numbers = np.concatenate([part["vectors"].numpy() for part in found])
    return vectors[places]


def scores_of(
    classifier: TextClassifier,
    encoded: Rows,
    *,
    padding: int,
    supervision: Supervision,
    phase: str,
    share: tuple[float, float],
) -> Numbers:
    """Return a classifier's scores (logits, texts x labels). Raises Stopped."""
    classifier.eval()
    found = np.zeros((len(encoded), classifier.head.out_features), np.float32)
    batches = by_length([len(row) for row in encoded], size=BATCH)
    for number, batch in enumerate(batches, start=1):
        if supervision.stop_requested():
            raise Stopped
        with torch.inference_mode():
            found[batch] = classifier(*padded([encoded[row] for row in batch], padding=padding)).numpy()
        done = share[0] + (share[1] - share[0]) * number / len(batches)
        supervision.emit(Progress(phase=phase, fraction=done, step=number, steps=len(batches)))
    return found
