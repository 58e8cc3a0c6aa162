"""What the headers of a model's safetensors files say, for those who plan and refuse before anything is loaded.

The files were checked when they came in; here a header is 8 bytes of length, then JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path


def parameters_in(folder: Path) -> int:
    """Count the values of a folder's weights. Raises OSError, ValueError, KeyError or TypeError for a broken header."""
    return sum(math.prod(map(int, shape)) for _, shape in _tensors(folder))


def layers_in(folder: Path) -> frozenset[str]:
    """Return the last part of the name of every layer with a matrix, such as q_proj. Raises as `parameters_in` does."""
    return frozenset(
        name.removesuffix(".weight").rpartition(".")[2]
        for name, shape in _tensors(folder)
        if name.endswith(".weight") and len(shape) == 2
    )


def _tensors(folder: Path) -> Iterator[tuple[str, list[int]]]:
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError(f"{file.name} has no safetensors header")
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, entry["shape"]
