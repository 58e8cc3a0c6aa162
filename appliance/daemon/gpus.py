"""Which GPUs engines can use: asked of a short process, because the daemon never loads llama.cpp or a driver.

Where no plug-in for a GPU lies beside the engine nothing is started, and there is none.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.kernel.errors import IntramurosError
from appliance.kernel.process import run
from appliance.weights.gpu import GpuDevice

_PATIENCE: Final = 30.0
_PLUG_INS: Final = ("libggml-cuda.so", "libggml-vulkan.so")
_SWITCHES: Final = ("GGML_VK_", "GGML_CUDA_", "CUDA_VISIBLE_DEVICES")
"""Beginnings of the variables by which the daemon's unit can keep engines to some of the GPUs, or from what a driver
stumbles over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The GPUs of one moment. `plugged`: there is a plug-in; `problem`: why its devices could not be listed."""

    plugged: bool = False
    devices: tuple[GpuDevice, ...] = ()
    problem: str = ""


def plug_ins() -> list[str]:
    """Name the GPU libraries beside the installed engine."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent / "backends"
    return [name for name in _PLUG_INS if (folder / name).exists()]


def look(prefix: tuple[str, ...]) -> Sighting:
    """List the GPUs in a process of its own, which blocks for up to some seconds."""
    if not plug_ins():
        return Sighting()
    argv = [*prefix, sys.executable, "-I", "-m", "appliance.engine.gpu_devices"]
    try:
        outcome = run(argv, timeout=_PATIENCE, extra_environment=gpu_environment())
    except IntramurosError as error:
        return Sighting(plugged=True, problem=error.message)
    return sighting(outcome.status, outcome.stdout, outcome.stderr)


def sighting(status: int, answer: str, complaints: str) -> Sighting:
    """Read what the program said."""
    if status:
        last = (complaints.strip().splitlines() or ["it said nothing"])[-1][:200]
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return Sighting(plugged=True, problem=f"listing the GPUs {how}: {last}")
    try:
        devices = msgspec.json.decode(answer, type=tuple[GpuDevice, ...])
    except msgspec.DecodeError as error:
        return Sighting(plugged=True, problem=f"the list of GPUs cannot be read: {error}")
    return Sighting(plugged=True, devices=devices)


def gpu_environment() -> dict[str, str]:
    """What a process that may use GPUs is told of the daemon's environment."""
    return {name: value for name, value in os.environ.items() if name.startswith(_SWITCHES)}
