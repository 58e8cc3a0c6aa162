"""Two boxes that were joined by their answers train one model together, and nothing but encrypted packets pass between.

This machine's kernel may have no WireGuard; the boxes then get the program that stands in for it, as the pages say.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.boxes.conftest import Installed, Rig
from tests.boxes.rig.box import read, write
from tests.boxes.rig.commands import run
from tests.boxes.rig.installation import ANSWERS, MEDIUM, Bundle, Wishes, again, answers
from tests.boxes.rig.network import NETWORK
from tests.boxes.rig.nspawn import NspawnBox

pytestmark = [pytest.mark.boxes, pytest.mark.timeout(3600)]

_STAND_IN = Path("/usr/bin/wireguard-go")
_TINY = "/media/tiny"
_INSIDE = {"alpha": "10.77.0.1", "beta": "10.77.0.2"}
_OUTSIDE = {"alpha": NETWORK[20], "beta": NETWORK[21]}
_RECIPE = """recipe: full
base: tiny@1
data: faq@1
with: {epochs: 2, max_length: 96, checkpoint_seconds: 0, ranks: 2, boxes: [alpha, beta]}
"""


def _other(name: str) -> str:
    return next(box for box in _INSIDE if box != name)


def _wishes(name: str, rig: Rig, *, key: str = "") -> Wishes:
    """Return the answers of a box that is alone in its fleet, or knows the other's key."""
    fleet = f'\n[fleet]\nname = "{name}"\naddress = "{_INSIDE[name]}/24"\n'
    other = _other(name)
    if key:
        fleet += (
            f'\n[[fleet.boxes]]\nname = "{other}"\naddress = "{_INSIDE[other]}"\n'
            f'endpoint = "{_OUTSIDE[other]}"\npublic_key = "{key}"\n'
        )
    return Wishes(
        address=_OUTSIDE[name], public_key=rig.public_key, fleet=(str(_OUTSIDE[other]),), more=fleet, hostname=name
    )


def _install_again(box: NspawnBox, wishes: Wishes) -> None:
    write(box, ANSWERS, answers(wishes), mode="0600")
    again(box)


def _asked(box: NspawnBox, words: str) -> Any:
    return json.loads(box.sh(f"intramuros {words} --json", timeout=300).out)


def _until(condition: Callable[[], Any], what: str, *, seconds: float = 240.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return found


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    from tests.factories.tiny_llama import make_tiny_llama  # it needs torch

    make_tiny_llama(tmp_path / "tiny")
    run(["chmod", "-R", "a+rX", tmp_path])
    return tmp_path / "tiny"


@pytest.fixture
def boxes(rig: Rig, installed: Installed, bundle: Bundle, tiny: Path) -> dict[str, NspawnBox]:
    """The two boxes in one fleet, each installed three times: without it, with its own key, and with the other's."""
    if not _STAND_IN.exists() and not Path("/sys/module/wireguard").exists():
        pytest.skip("this kernel has no WireGuard, and there is no wireguard-go: make test-boxes installs it")
    made = {}
    for octet, name in enumerate(_INSIDE, start=20):
        made[name] = rig.box(
            name, octet=octet, layers=installed.layers, shared=((bundle.medium, MEDIUM), (tiny, _TINY)), tunnels=True
        )
        if _STAND_IN.exists():
            shutil.copy2(_STAND_IN, made[name].root / "usr" / "bin")
        _install_again(made[name], _wishes(name, rig))
    keys = {name: read(box, "/etc/intramuros/fleet/public.key").strip() for name, box in made.items()}
    for name, box in made.items():
        _install_again(box, _wishes(name, rig, key=keys[_other(name)]))
    return made


def test_two_boxes_train_together_and_only_encrypted_packets_pass(boxes: dict[str, NspawnBox], rig: Rig) -> None:
    alpha, beta = boxes["alpha"], boxes["beta"]
    _until(lambda: all(box["reachable"] for box in _asked(alpha, "fleet")), "both rank hosts answer")
    assert [(box["name"], box["same_version"]) for box in _asked(alpha, "fleet")] == [("alpha", True), ("beta", True)]
    inside = _INSIDE["beta"]
    assert not alpha.sh(f"timeout 3 bash -c '</dev/tcp/{inside}/7600'", check=False).ok, "the box itself gets inside"
    alpha.sh(f"intramuros model import {_TINY} --name tiny --licence Apache-2.0", timeout=300)
    alpha.sh("intramuros dataset import example:faq --name faq", timeout=300)
    write(alpha, "/var/lib/recipe.yaml", _RECIPE)
    capture = rig.network.capture("fleet", f"host {_OUTSIDE['alpha']} and host {_OUTSIDE['beta']} and not arp")
    job = _asked(alpha, "train run /var/lib/recipe.yaml --detach")["id"]
    sealed = f"ls -d /srv/intramuros/ranks/runs/{job}/checkpoints/rank-1/step-*[0-9]"
    _until(lambda: beta.sh(sealed, check=False).ok, "the rank on beta has sealed a checkpoint")
    beta.sh("pkill -9 -f training.ranks.[r]ank_task")
    found = _until(lambda: _ended(alpha, job), "the run has ended", seconds=600)
    packets = capture.stop()
    assert found["state"] == "succeeded", found
    assert (found["summary"]["ranks"], found["summary"]["boxes"]) == (2, 2)
    assert any("start again" in line or "Going on from" in line for line in _notes(alpha, job))
    assert packets
    assert [line for line in packets if ".51820 >" not in line or "UDP" not in line] == []
    for box in boxes.values():
        assert box.sh("ls -A /srv/intramuros/ranks/runs").out == ""
        assert box.sh("systemctl list-units --failed --plain --no-legend").out == ""
    _leaves(alpha, beta, rig)


def _ended(box: NspawnBox, job: str) -> Any:
    found = _asked(box, f"run show {job}")["job"]
    return found if found["state"] not in ("queued", "running") else None


def _notes(box: NspawnBox, job: str) -> list[str]:
    return box.sh(f"intramuros job log {job}").out.splitlines()


def _leaves(alpha: NspawnBox, beta: NspawnBox, rig: Rig) -> None:
    """Take beta out at alpha alone: nobody answers it any more, whatever it still has."""
    _install_again(alpha, replace(_wishes("alpha", rig), fleet=()))
    assert [box["name"] for box in _asked(alpha, "fleet")] == ["alpha"]
    seen = {box["name"]: box["reachable"] for box in _asked(beta, "fleet")}
    assert seen == {"beta": True, "alpha": False}
