from __future__ import annotations

import os
from pathlib import Path

from appliance.api.types import ServingOptions
from appliance.daemon.engine_command import command_of, engine_arguments, layers_given
from appliance.kernel.settings import Settings
from appliance.residency.offload import Placement

CACHE = Path("/state/cache/engine-1")


def _arguments(settings: Settings, kind: str = "generate") -> dict[str, str]:
    words = engine_arguments(settings, ServingOptions(kind=kind), None, cache=CACHE)
    return dict(zip(words[::2], words[1::2], strict=True))


def test_saved_prefixes_stay_in_memory_unless_the_settings_give_them_disk() -> None:
    plain = _arguments(Settings(prefix_cache_memory=64 << 20))
    assert plain["--cache-ram"] == "64"
    assert "--cache-folder" not in plain
    spilling = _arguments(Settings(prefix_cache_disk=1 << 30))
    assert (spilling["--cache-folder"], spilling["--cache-disk"]) == (str(CACHE), "1024")


def test_an_encoder_keeps_no_prefixes() -> None:
    given = _arguments(Settings(prefix_cache_disk=1 << 30), kind="embed")
    assert not [name for name in given if name.startswith("--cache")]


def test_layers_on_a_gpu_are_in_the_command_and_can_be_read_from_it() -> None:
    assert "--gpu-layers" not in _arguments(Settings())
    placed = Placement(layers=20, gpu="CUDA0", backend="CUDA")
    words = engine_arguments(Settings(), ServingOptions(), None, cache=CACHE, placement=placed)
    assert layers_given(["python", "-m", "worker", *words]) == (20, "CUDA0")
    assert layers_given(["python", "--gpu-layers", "many", "--gpu"]) == (0, "")
    assert layers_given([]) == (0, "")


def test_the_command_of_a_process_that_is_gone_is_empty() -> None:
    assert command_of(2**22 - 3) == []
    assert "pytest" in " ".join(command_of(os.getpid()))
