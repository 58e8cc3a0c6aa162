"""Where a deployment's layers are stands on its page, on a box whose engine has a GPU to talk to."""

from __future__ import annotations

from msgspec.structs import replace

from appliance.api.types import DeploymentView
from tests.console.fake_data import DEPLOYMENTS, NOW
from tui.text import Look, plain
from tui.views.serve import deployment_lines


def _page(one: DeploymentView) -> str:
    return "\n".join(plain(line) for line in deployment_lines(one, Look(width=80, height=40, now=NOW)))


def test_the_placement_is_told_where_there_is_one() -> None:
    assistant = DEPLOYMENTS[0]
    assert "layers" not in _page(assistant)
    resident = assistant.resident
    assert resident is not None
    told = "20 of 33 layers on CUDA0 (3.1 GiB), as asked"
    placed = replace(resident, placement=told, gpu_measured=3 << 30, gpu_error=-0.03)
    page = _page(replace(assistant, resident=placed))
    assert told in page
    assert "3.0 GiB measured (-3%)" in page
