"""A quantisation ladder: which rungs there are, what a model's sizes allow, and what a rung cost. Pure.

The perplexity ratio is taken over the same tokens in the same engine, rung against the unquantised file, so that what
is measured is the quantisation alone. Its error is the standard error of the mean difference, clustered by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from appliance.kernel.errors import BadInput

LOSSY_RATIO: Final = 1.02
"""Perplexity may rise by this much for a rung to count as giving what the model gives."""
LOSSY_TOKENS: Final = 0.9
_SURE: Final = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One number format: llama.cpp's `enum llama_ftype`, and how many weights of a row share a scale."""

    ftype: int
    block: int


RUNGS: Final = {
    "Q8_0": Rung(ftype=7, block=32),
    "Q6_K": Rung(ftype=18, block=256),
    "Q5_K_M": Rung(ftype=17, block=256),
    "Q4_K_M": Rung(ftype=15, block=256),
    "Q4_0": Rung(ftype=2, block=32),
}


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person may choose about a ladder. Lengths are tokens."""

    to: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=8)] = tuple(RUNGS)
    imatrix: bool = False
    """weigh what the model's activations say is important, measured on the data set's training part"""
    calibration_tokens: Annotated[int, msgspec.Meta(ge=256, le=1 << 22)] = 16384
    perplexity_tokens: Annotated[int, msgspec.Meta(ge=64, le=1 << 22)] = 16384
    window: Annotated[int, msgspec.Meta(ge=16, le=4096)] = 512
    """longest piece of text that is scored at once; a shorter context of the model counts"""
    parity_prompts: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 16
    parity_tokens: Annotated[int, msgspec.Meta(ge=1, le=512)] = 32
    rounds: Annotated[int, msgspec.Meta(ge=1, le=50)] = 5
    """times that the speeds of rung and unquantised file are taken in turn"""
    prompt: Annotated[int, msgspec.Meta(ge=8, le=2048)] = 96
    answer: Annotated[int, msgspec.Meta(ge=4, le=512)] = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Perplexity of a rung over that of the unquantised file, with its 95 % interval."""

    value: float
    low: float
    high: float


def parse(values: dict[str, Any]) -> Parameters:
    """Check what was asked for. Raises BadInput `conversion.ladder`."""
    try:
        parameters = msgspec.convert(values, Parameters)
    except msgspec.ValidationError as error:
        raise BadInput("conversion.ladder", f"The ladder's parameters are not valid: {error}.") from error
    unknown = [name for name in parameters.to if name not in RUNGS]
    if unknown or len(set(parameters.to)) != len(parameters.to):
        what = f"{unknown[0]!r} is not a rung" if unknown else "A rung is named twice"
        raise BadInput("conversion.ladder", f"{what}.", hint=f"Rungs: {', '.join(RUNGS)}.")
    return parameters


def why_not(name: str, rows: dict[str, int]) -> str:
    """Return why a model's sizes do not allow a rung, or an empty text. `rows` is each matrix's row length.

    llama.cpp would silently write another format for such a matrix: the file would not be what it is called.
    """
    block = RUNGS[name].block
    odd = sorted({length for length in rows.values() if length % block})
    if not odd:
        return ""
    count = sum(1 for length in rows.values() if length % block)
    return (
        f"{count} of {len(rows)} matrices have rows of {', '.join(map(str, odd[:3]))} weights; "
        f"{name} needs multiples of {block}"
    )


def ratio(base: Sequence[float], rung: Sequence[float], tokens: Sequence[int]) -> Ratio:
    """Return the perplexity ratio from each row's negative log likelihood (nats). Raises ValueError without tokens."""
    total = sum(tokens)
    if total <= 0:
        raise ValueError("a perplexity over no tokens is not defined")
    rises = [after - before for before, after in zip(base, rung, strict=True)]
    mean = math.fsum(rises) / total
    spread = math.fsum((rise - mean * count) ** 2 for rise, count in zip(rises, tokens, strict=True))
    error = math.sqrt(spread) / total
    return Ratio(value=_exp(mean), low=_exp(mean - _SURE * error), high=_exp(mean + _SURE * error))


def perplexity(nats: Sequence[float], tokens: Sequence[int]) -> float:
    """Return exp of the mean over all tokens."""
    return _exp(math.fsum(nats) / sum(tokens))


def median(values: Sequence[float]) -> float:
    """Return the middle of some values."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def windows(rows: Sequence[Sequence[int]], *, longest: int, most: int) -> list[list[int]]:
    """Cut tokenised rows into pieces of 2 to `longest` tokens, about `most` tokens in all."""
    found: list[list[int]] = []
    left = most
    for row in rows:
        for start in range(0, len(row), longest):
            piece = list(row[start : start + min(longest, max(left, 2))])
            if len(piece) > 1 and left > 0:
                found.append(piece)
                left -= len(piece)
    return found


def report_text(summary: dict[str, Any]) -> str:
    """Return the ladder as a Markdown table for people."""
    lines = [
        "# Quantisation ladder",
        "",
        f"Measured on {summary['measured_tokens']} held-out tokens of {summary['data']}. Unquantised: perplexity "
        f"{summary['perplexity']:.4f}, {summary['gguf_bytes']} bytes. Speeds are this machine's, as ratios.",
        "",
        "| rung | bytes | size | perplexity | ratio | 95 % interval | same tokens | reads | generates |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in summary["rungs"]:
        if not one["made"]:
            lines.append(f"| {one['name']} | not made: {one['why_not']} | | | | | | | |")
            continue
        low, high = one["perplexity_ratio_interval"]
        lines.append(
            f"| {one['name']} | {one['gguf_bytes']} | {one['size_ratio']:.3f} | {one['perplexity']:.4f} "
            f"| {one['perplexity_ratio']:.4f} | {low:.4f} to {high:.4f} | {one['same_tokens']:.3f} "
            f"| {one['prefill_ratio']:.2f} | {one['decode_ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
