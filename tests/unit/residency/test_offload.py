from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.residency.footprint import MIB, Footprint, OnDevice, Shape, generator, shape_of
from appliance.residency.offload import AUTO, Gpu, layers_of, most_layers, offloaded, place
from tests.factories.model_shapes import SEVEN_BILLION

SHAPE = shape_of(SEVEN_BILLION | {"quantisation": "Q4_0"})
FILE = 4 << 30


def alone(shape: Shape = SHAPE) -> Footprint:
    return generator(shape, file=FILE, cells=8192, sequences=64, chats=True, saved=1 << 20)


def test_no_layers_change_nothing() -> None:
    assert offloaded(alone(), SHAPE, layers=0, backend="CUDA") == alone()
    assert alone().device == OnDevice()
    assert alone().device.total == 0
    nameless = shape_of({"hidden": 64})
    assert layers_of(nameless) == 0
    assert offloaded(alone(nameless), nameless, layers=99, backend="CUDA") == alone(nameless)


def test_with_all_layers_the_embeddings_stay_in_main_memory() -> None:
    found = offloaded(alone(), SHAPE, layers=99, backend="Vulkan")
    embeddings = FILE * 32000 * 4096 // 7_000_000_000
    assert found.device.layers == 33
    assert found.device.weights == FILE
    assert found.weights == found.mapped == embeddings
    assert (found.cache, found.device.cache) == (0, 1 << 30)
    assert found.repacked == 0
    assert found.device.overhead == 64 * MIB
    assert found.device.total == found.device.allocated + 64 * MIB


def test_one_layer_is_the_output_alone_and_each_more_brings_its_cells() -> None:
    output, one, two = (offloaded(alone(), SHAPE, layers=layers, backend="CUDA").device for layers in (1, 2, 3))
    assert output.cache == 0
    assert output.weights > 0
    assert one.cache == (1 << 30) // 32
    assert abs((one.weights - output.weights) - (two.weights - one.weights)) <= 1  # rounded to bytes


@given(st.integers(0, 40), st.integers(0, 12 << 30))
def test_what_leaves_one_memory_is_in_the_other(layers: int, free: int) -> None:
    found = offloaded(alone(), SHAPE, layers=layers, backend="CUDA")
    assert found.cache + found.device.cache == alone().cache
    assert found.weights + found.device.weights >= alone().weights
    fitting = most_layers(alone(), SHAPE, free=free, backend="CUDA")
    assert fitting in (0, *range(2, 34))
    assert offloaded(alone(), SHAPE, layers=fitting, backend="CUDA").device.total <= free
    if fitting < 33:
        assert offloaded(alone(), SHAPE, layers=max(2, fitting + 1), backend="CUDA").device.total > free


def test_the_roomiest_device_is_taken_the_first_of_equals() -> None:
    gpus = [Gpu(name=f"CUDA{number}", backend="CUDA", free=free << 30) for number, free in enumerate((5, 80, 80))]
    assert place(alone(), SHAPE, asked=AUTO, gpus=gpus).gpu == "CUDA1"
    assert place(alone(), SHAPE, asked=AUTO, gpus=()).layers == 0
