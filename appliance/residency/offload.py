"""What moves from main memory to a GPU with a number of layers, how many fit, and which GPU takes them.

Layers are counted as llama.cpp counts them: the output is one more, and the first to go. Their weights and KV cells
move; the token embeddings stay. A model whose output shares the embeddings' weights gets a copy of them on the device;
the header does not say which models do, so that copy is counted for all. Zero layers change nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from appliance.residency.footprint import MIB, Footprint, OnDevice, Shape
from appliance.residency.plan import size

AUTO: Final = -1
"""As many layers as fit."""
_OVERHEAD: Final = {"CUDA": (512 * MIB, 256 * MIB), "Vulkan": (64 * MIB, 64 * MIB)}
"""backend -> bytes that it takes for a process on the device and in main memory, before any model"""
_USUAL_OVERHEAD: Final = (512 * MIB, 256 * MIB)


def layers_of(shape: Shape) -> int:
    """How many layers a model has for a GPU; 0 where its header does not say, and nothing is put there."""
    return shape.layers + 1 if shape.layers else 0


def offloaded(alone: Footprint, shape: Shape, *, layers: int, backend: str) -> Footprint:
    """The footprint of an engine with its last `layers` layers on a GPU, from that of one without."""
    layers = min(layers, layers_of(shape))
    if not layers:
        return alone
    blocks = (layers - 1) / shape.layers
    output = min(alone.weights, alone.weights * shape.vocabulary * shape.hidden // max(1, shape.parameters))
    moved = int((alone.weights - output) * blocks)
    cells = int(alone.cache * blocks)
    on_device, beside = _OVERHEAD.get(backend, _USUAL_OVERHEAD)
    left = alone.weights - moved
    return replace(
        alone,
        weights=left,
        mapped=alone.mapped - moved,
        repacked=0,  # with a GPU llama.cpp leaves the weights of the processor's layers as they are in the file
        cache=alone.cache - cells,
        process=alone.process + beside,
        device=OnDevice(layers=layers, weights=moved + output, cache=cells, compute=alone.compute, overhead=on_device),
    )


def most_layers(alone: Footprint, shape: Shape, *, free: int, backend: str) -> int:
    """The largest number of layers that fit into `free` bytes of a device; 0 when not even one block does."""
    for layers in range(layers_of(shape), 1, -1):
        if offloaded(alone, shape, layers=layers, backend=backend).device.total <= free:
            return layers
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A device and the bytes of it that serving has left. `shared`: they are main memory."""

    name: str
    backend: str
    free: int
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How many of a model's layers go to which GPU (none and empty: the processor computes all), and why, in words."""

    layers: int = 0
    gpu: str = ""
    backend: str = ""
    shared: bool = False
    why: str = "on the processor"


ON_PROCESSOR: Final = Placement()


def place(alone: Footprint, shape: Shape, *, asked: int, gpus: Sequence[Gpu]) -> Placement:
    """Choose the layers for the GPU with the most free memory: as many as are `asked`, or fit where that is `AUTO`.

    What is asked for by number is not cut down to what is free: the planner makes room, waits or refuses.
    """
    if not asked:
        return Placement(why="on the processor, as asked")
    gpu = max(gpus, key=lambda one: one.free, default=None)
    if gpu is None:
        return Placement(why="on the processor: the engine sees no GPU")
    every = layers_of(shape)
    if not every:
        return Placement(why="on the processor: the model's header does not say how many layers it has")
    if asked == AUTO:
        layers = most_layers(alone, shape, free=gpu.free, backend=gpu.backend)
        fitting = f", as many as fit into {size(max(0, gpu.free))}"
    else:
        layers, fitting = min(asked, every), ", as asked"
    if not layers:
        return Placement(why=f"on the processor: not one layer fits into the {size(max(0, gpu.free))} of {gpu.name}")
    needs = size(offloaded(alone, shape, layers=layers, backend=gpu.backend).device.total)
    share = f"all {every} layers" if layers == every else f"{layers} of {every} layers"
    why = f"{share} on {gpu.name} ({needs}){'' if layers == every else fitting}"
    return Placement(layers=layers, gpu=gpu.name, backend=gpu.backend, shared=gpu.shared, why=why)
