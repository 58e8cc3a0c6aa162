from __future__ import annotations

from pathlib import Path

from appliance.api.types import ServingOptions
from appliance.daemon.engine_command import engine_arguments
from appliance.kernel.settings import Settings

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
