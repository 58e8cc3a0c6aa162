"""The head of a text classifier, as two small files beside a plain encoder: the mean of the pieces' vectors, brought to
length 1, times a matrix.

    intramuros_head.json         labels in the order of the scores, the longest text in tokens
    intramuros_head.safetensors  weight (labels x hidden), bias (labels); float32

The encoder beside it stays what it was, so one trained elsewhere is kept once however many heads it is given. Knows no
torch: the worker that serves, jobs that train and jobs that measure read the same two files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from appliance.kernel.errors import IntegrityFailure, storage_errors

CONFIG: Final = "intramuros_head.json"
TENSORS: Final = "intramuros_head.safetensors"
ARCHITECTURE: Final = "IntramurosForSequenceClassification"
"""What a description names as the head of such a model."""
MOST_LABELS: Final = 4096
_SMALL: Final = 1 << 20

Matrix = npt.NDArray[np.float32]


class HeadConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the numbers mean. `format` and `pooling` have one value each until there is a second."""

    labels: Annotated[tuple[str, ...], Meta(min_length=2, max_length=MOST_LABELS)]
    max_length: Annotated[int, Meta(ge=4, le=1 << 20)]
    format: Literal[1] = 1
    pooling: Literal["unit-mean"] = "unit-mean"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """A head in memory: `weight` is labels x hidden."""

    config: HeadConfig
    weight: Matrix
    bias: Matrix


def has_head(folder: Path) -> bool:
    """Tell whether a model folder has such a head."""
    return (folder / CONFIG).is_file()


def read_head(folder: Path, *, hidden: int) -> Head:
    """Read a head that fits an encoder of that width. Raises IntegrityFailure `model.head_invalid`."""
    config = read_config(folder)
    try:
        tensors: dict[str, Any] = load_file(folder / TENSORS)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _invalid(f"{TENSORS} cannot be read") from error
    wanted = {"weight": (len(config.labels), hidden), "bias": (len(config.labels),)}
    found = {name: (value.shape, str(value.dtype)) for name, value in tensors.items()}
    if found != {name: (shape, "float32") for name, shape in wanted.items()}:
        raise _invalid(f"{TENSORS} does not hold a weight and a bias for {len(config.labels)} labels of width {hidden}")
    if not all(bool(np.isfinite(value).all()) for value in tensors.values()):
        raise _invalid(f"{TENSORS} holds numbers that are not finite")
    return Head(config=config, weight=tensors["weight"], bias=tensors["bias"])


def read_config(folder: Path) -> HeadConfig:
    """Read what a head is about. Raises IntegrityFailure `model.head_invalid`."""
    try:
        with (folder / CONFIG).open("rb") as stream:
            return parse_config(stream.read(_SMALL + 1))
    except OSError as error:
        raise _invalid(f"{CONFIG} cannot be read") from error


def parse_config(data: bytes) -> HeadConfig:
    """Read the text of `intramuros_head.json`. Raises IntegrityFailure `model.head_invalid`."""
    try:
        config = msgspec.json.decode(data, type=HeadConfig)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _invalid(f"{CONFIG}: {error}") from error
    if len(data) > _SMALL or len(set(config.labels)) != len(config.labels) or not all(config.labels):
        raise _invalid(f"{CONFIG} is too long, or its labels are not different words")
    return config


def write_head(folder: Path, head: Head) -> None:
    """Write both files; equal heads give equal bytes."""
    with storage_errors("writing the classification head"):
        (folder / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(head.config, order="sorted")) + b"\n")
        tensors = {"weight": head.weight, "bias": head.bias}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / TENSORS)


def _invalid(reason: str) -> IntegrityFailure:
    return IntegrityFailure(
        "model.head_invalid",
        f"The model's classification head cannot be used: {reason}.",
        hint="Take the folder as a `train classify` run wrote it.",
    )
