"""On a machine without a GPU and without plug-ins: ggml's registry is read, and layers are refused."""

from __future__ import annotations

import pytest

from appliance.kernel.errors import Unavailable
from appliance.weights.gpu import Kind, gpus
from appliance.weights.llama_devices import Ggml, free_bytes, require_gpu


def test_the_processor_is_there_with_its_memory() -> None:
    [processor] = [found for found in Ggml().properties() if found.kind == Kind.CPU]
    assert (processor.name, processor.backend) == ("CPU", "CPU")
    assert processor.total >= processor.free > 1 << 20


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(Unavailable, match="were to go to the GPU CUDA7; the engine sees"):
        require_gpu("CUDA7")
    assert free_bytes("CUDA7") == 0
    if not gpus(Ggml()):
        with pytest.raises(Unavailable, match=r"the GPU of this box; the engine sees none\."):
            require_gpu("")
