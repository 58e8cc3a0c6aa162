"""What is measured and how the winner is chosen: parameters, number formats, roofline shares, the profile.

Pure. The roofline model is that of Williams, Waterman and Patterson (CACM 2009): generating one token reads every
weight once and is bounded by memory bandwidth, reading a prompt is bounded by arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from appliance.kernel.errors import BadInput

FORMATS: Final = {"q4_0": 2, "q8_0": 7, "q4_k_m": 15, "bf16": 32}
"""Number formats and llama.cpp's `enum llama_ftype`."""
_WHOLE: Final = frozenset({"F32", "F16", "BF16"})

Threads = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Ubatch = Annotated[int, msgspec.Meta(ge=16, le=4096)]
Format = Annotated[str, msgspec.Meta(max_length=16)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person may choose. Empty lists mean: what is usual on this machine. Lengths are tokens."""

    formats: Annotated[tuple[Format, ...], msgspec.Meta(max_length=8)] = tuple(FORMATS)
    threads: Annotated[tuple[Threads, ...], msgspec.Meta(max_length=8)] = ()
    ubatches: Annotated[tuple[Ubatch, ...], msgspec.Meta(max_length=8)] = (128, 512)
    prompt: Annotated[int, msgspec.Meta(ge=16, le=4096)] = 256
    answer: Annotated[int, msgspec.Meta(ge=4, le=1024)] = 24
    streams: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    repeats: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3


class Roofline(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine did at best in this run, with `threads`. Bytes read, and operations of a product, per second."""

    threads: int
    bandwidth: float
    peak_f32: float
    peak_bf16: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What one setting did: the best of its repeats, tokens per second."""

    prompt: float
    answer: float
    """one stream"""
    answers: float
    """all streams together"""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one measurement of speed tells; `build` is llama.cpp's, with the kernels it took."""

    speed: Speed
    build: str


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, what it did, and how much of the roofline that is (0 to 1)."""

    format: str
    size: int
    threads: int
    ubatch: int
    speed: Speed
    build: str
    bandwidth_share: float
    peak_share: float


def parse(values: dict[str, Any]) -> Parameters:
    """Check what was asked for. Raises BadInput `tune.parameters`."""
    try:
        parameters = msgspec.convert(values, Parameters)
    except msgspec.ValidationError as error:
        raise BadInput("tune.parameters", f"This cannot be measured: {error}.") from error
    unknown = [name for name in parameters.formats if name not in FORMATS]
    if unknown:
        raise BadInput(
            "tune.parameters", f"{unknown[0]!r} is not a number format.", hint=f"Formats: {', '.join(FORMATS)}."
        )
    return parameters


def steps_down(source: str, wanted: Sequence[str]) -> list[str]:
    """Return the formats to make of a file: none that would only blow up what is quantised already."""
    if source in _WHOLE:
        return [name for name in wanted if name.upper() != source]
    if source == "Q8_0":
        return [name for name in wanted if name.startswith("q4")]
    return []


def share(speed: Speed, *, size: int, parameters: int, roofline: Roofline) -> tuple[float, float]:
    """Return the shares of bandwidth (one stream) and of arithmetic peak (prompt) that were reached."""
    peak = max(roofline.peak_f32, roofline.peak_bf16)
    return speed.answer * size / roofline.bandwidth, speed.prompt * 2 * parameters / peak


def score(speed: Speed) -> float:
    """One figure to choose by: the geometric mean of prompt, one stream and many streams."""
    return math.exp((math.log(speed.prompt) + math.log(speed.answer) + math.log(speed.answers)) / 3)


def best(measurements: Sequence[Measurement]) -> Measurement:
    """Return the fastest; of equals within 2 % the one with fewer threads, then with the smaller batch."""
    top = max(score(one.speed) for one in measurements)
    close = [one for one in measurements if score(one.speed) >= 0.98 * top]
    return min(close, key=lambda one: (one.threads, one.ubatch))
