"""What moves from main memory to a GPU with a number of layers, and how many layers fit.

Layers are counted as llama.cpp counts them: the output is one more, and the first to go. Their weights and KV cells
move; the token embeddings stay. A model whose output shares the embeddings' weights gets a copy of them on the device;
the header does not say which models do, so that copy is counted for all. Zero layers change nothing at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from appliance.residency.footprint import MIB, Footprint, OnDevice, Shape

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
