"""What the daemon makes of the list of GPUs: read, missing, broken off, or not asked for at all."""

from __future__ import annotations

import msgspec
import pytest

from appliance.daemon.gpus import Sighting, gpu_environment, look, plug_ins, sighting
from appliance.weights.gpu import GpuDevice

CARD = GpuDevice(name="CUDA0", backend="CUDA", description="a card", total=8 << 30, free=7 << 30)


def test_the_list_is_what_the_program_prints() -> None:
    assert sighting(0, msgspec.json.encode((CARD,)).decode(), "").devices == (CARD,)
    assert sighting(0, "[]", "").problem == ""


def test_a_driver_that_ends_the_program_is_told_and_costs_nothing_else() -> None:
    assert sighting(-11, "", "one\ntwo\n") == Sighting(
        plugged=True, problem="listing the GPUs was ended by signal 11: two"
    )
    assert sighting(70, "", "").problem == "listing the GPUs ended with status 70: it said nothing"
    assert "cannot be read" in sighting(0, '[{"name": 1}]', "").problem


def test_without_a_plug_in_nothing_is_started() -> None:
    if plug_ins():
        pytest.skip("this environment has a plug-in for GPUs")
    assert look(("false",)) == Sighting()


def test_engines_see_the_gpus_that_the_daemon_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu_environment() == {"GGML_VK_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "0"}
