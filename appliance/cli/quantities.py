"""Sizes, durations and layers as people type them: 4G, 512M, 30m, 2h, auto; and figures as they are told."""

from __future__ import annotations

import re
from typing import Final

from appliance.api.types import SIZES
from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import size_text

_SIZES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DURATIONS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Return bytes. Raises BadInput `size.invalid`."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise BadInput("size.invalid", f"{text!r} is not a size.", hint="For example 512M or 4G.")
    return int(float(match[1]) * _SIZES[match[2].upper()])


def parse_duration(text: str) -> float:
    """Return seconds. Raises BadInput `duration.invalid`."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([smhd]?)", text.strip())
    if match is None:
        raise BadInput("duration.invalid", f"{text!r} is not a duration.", hint="For example 90s, 30m, 2h or 1d.")
    return float(match[1]) * _DURATIONS[match[2]]


def parse_layers(text: str) -> int:
    """Return how many layers go to a GPU, -1 for as many as fit. Raises BadInput `layers.invalid`."""
    if text.strip().lower() == "auto":
        return -1
    if re.fullmatch(r"[0-9]{1,4}", text.strip()) is None:
        raise BadInput("layers.invalid", f"{text!r} is no number of layers.", hint="auto, 0, or a number such as 20.")
    return int(text)


def figure_text(name: str, value: float) -> str:
    """Return a run's figure: six digits, a count whole, memory in units: `0.934212`, `2224896`, `1.2 GiB`."""
    if name in SIZES:
        return size_text(int(value))
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
