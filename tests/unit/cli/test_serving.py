"""What `intramuros serving show` tells of GPUs, and that it says nothing of them on a box without."""

from __future__ import annotations

from msgspec.structs import replace

from appliance.api import types as t
from appliance.cli.serving import serving_text
from tests.factories.resident import resident

CHAT = resident()
VIEW = t.ServingView(budget=8 << 30, used=1 << 30, available=6 << 30, models=(CHAT,), decisions=())
CARD = t.GpuView(name="CUDA0", description="a card", total=8 << 30, free=6 << 30, budget=7 << 30, used=2 << 30)


def test_a_box_without_gpus_reads_as_before() -> None:
    text = serving_text(VIEW, now=0.0)
    assert "GPU" not in text
    assert "layers" not in text


def test_cards_placements_and_what_engines_took_are_told() -> None:
    placed = replace(CHAT, placement="all 33 layers on CUDA0 (2.0 GiB)", gpu_measured=1 << 30, gpu_error=-0.1)
    text = serving_text(replace(VIEW, models=(placed,), gpus=(CARD,)), now=0.0)
    assert "CUDA0, a card: 8.0 GiB, 6.0 GiB free; serving may use 7.0 GiB, used 2.0 GiB" in text
    assert "chat: all 33 layers on CUDA0 (2.0 GiB); the engine took 1.0 GiB itself, -10% off" in text


def test_a_list_that_could_not_be_had_is_told() -> None:
    assert "GPU: a driver broke" in serving_text(replace(VIEW, gpu_problem="a driver broke"), now=0.0)
