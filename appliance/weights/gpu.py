"""The GPUs that llama.cpp can compute on, and how much of their memory is free.

Knows the order of llama.cpp's list and its rules for a card that two backends see; loads nothing itself: who has
llama.cpp in memory gives its registry. Others read the list that `appliance.engine.gpu_devices` prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import msgspec


class GpuDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU. `name` is llama.cpp's, such as CUDA0 or Vulkan0; sizes are bytes."""

    name: str
    backend: str
    """the library that talks to it: CUDA, Vulkan"""
    description: str
    total: int
    free: int
    shared: bool = False
    """whether its memory is the box's own, as that of a GPU in a processor is"""


class Kind(IntEnum):
    """`enum ggml_backend_dev_type`."""

    CPU = 0
    GPU = 1
    INTEGRATED = 2
    ACCELERATOR = 3
    META = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What ggml says of one device. `card` is its place on the PCI bus, empty where unknown."""

    name: str
    backend: str
    description: str
    free: int
    total: int
    kind: int
    card: str


class Registry(Protocol):
    """ggml's list of devices, after the backends were loaded."""

    def properties(self) -> Iterator[Properties]:
        """Every device in its order, processors among them."""


def gpus(registry: Registry) -> tuple[GpuDevice, ...]:
    """Return what layers can be put on.

    As llama.cpp chooses: a card that two backends see counts for the first, and a GPU in the processor only where
    there is no other.
    """
    seen: set[str] = set()
    dedicated: list[GpuDevice] = []
    integrated: list[GpuDevice] = []
    for found in registry.properties():
        if found.kind not in (Kind.GPU, Kind.INTEGRATED) or (found.card and found.card in seen):
            continue
        seen.add(found.card)
        device = GpuDevice(
            name=found.name,
            backend=found.backend,
            description=found.description,
            total=found.total,
            free=min(found.free, found.total),
            shared=found.kind == Kind.INTEGRATED,
        )
        (integrated if device.shared else dedicated).append(device)
    return tuple(dedicated or integrated)
