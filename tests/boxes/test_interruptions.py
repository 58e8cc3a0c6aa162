"""An installer that is killed, and a disk that is full: the same command goes on, and ends as if nothing had been."""

from __future__ import annotations

import random
import time

import pytest

from tests.boxes.conftest import Installed, Rig
from tests.boxes.rig.box import write
from tests.boxes.rig.installation import ANSWERS, MEDIUM, Bundle, Wishes, again, answers, install_script
from tests.boxes.rig.nspawn import NspawnBox
from tests.boxes.rig.results import at_least, record
from tests.boxes.rig.second_machine import ask, hand_over

pytestmark = [pytest.mark.boxes, pytest.mark.timeout(7200)]
_KILLS = 20
_PHASES = ("packages", "ground", "hardening", "access", "appliance", "closing")
_UNIT = "rig-install"
_FILL = "fallocate -l $(($(stat -f -c '%a*%S' /) - 65536)) /ballast || dd if=/dev/zero of=/ballast bs=64k"


def test_installer_killed_at_random_moments_goes_on(rig: Rig, bundle: Bundle, installed: Installed) -> None:
    box = rig.box(shared=((bundle.medium, MEDIUM),))
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    write(box, ANSWERS, answers(Wishes(address=box.address, public_key=rig.public_key)), mode="0600")
    killed = 0
    for number in range(_KILLS):
        _start(box, bundle)
        time.sleep(moments.uniform(1, installed.seconds / 6))
        if not _runs(box):
            break
        # Now and then only the parent dies, and what it started goes on for a while.
        whom = "main" if number % 3 == 2 else "all"
        box.sh(f"systemctl kill --signal=KILL --kill-whom={whom} {_UNIT}; systemctl stop {_UNIT}", check=False)
        box.sh(f"systemctl reset-failed {_UNIT}", check=False)  # a failed unit would keep its name
        killed += 1
    said = box.sh(install_script(bundle), check=False, timeout=1800)
    assert said.ok, (seed, said.out[-2000:], said.err[-4000:])
    record(at_least("boxes.kills_survived", killed, _KILLS, "kills"))
    outsider = rig.outsider(layers=installed.client_layers)
    hand_over(box, outsider)
    assert ask(outsider, box.address, "seed").get("tokens", 0) >= 1, seed
    report, _ = again(box)
    assert "  changed " not in report.out + report.err, (seed, report.err)


def test_full_disk_stops_each_phase_and_the_next_run_goes_on(rig: Rig, bundle: Bundle, installed: Installed) -> None:
    box = rig.box(disk_bytes=24 << 30, shared=((bundle.medium, MEDIUM),))
    write(box, ANSWERS, answers(Wishes(address=box.address, public_key=rig.public_key)), mode="0600")
    stopped: list[str] = []
    for phase in _PHASES:
        _start(box, bundle)
        if not _reaches(box, phase):
            said = box.sh(f"journalctl --unit={_UNIT} --identifier=sh --output=cat --lines=40", check=False)
            assert _ended_well(box), f"{stopped}, then before {phase}: {said.out}"
            continue
        box.sh(_FILL, check=False)
        while _runs(box):
            time.sleep(0.5)
        stopped += [] if _ended_well(box) else [phase]
        box.sh(f"rm /ballast; systemctl reset-failed {_UNIT}", check=False)
    assert "packages" in stopped
    assert "appliance" in stopped, stopped
    said = box.sh(install_script(bundle), check=False, timeout=1800)
    assert said.ok, (stopped, said.err[-4000:])
    outsider = rig.outsider(layers=installed.client_layers)
    hand_over(box, outsider)
    assert ask(outsider, box.address, "seed").get("tokens", 0) >= 1
    report, _ = again(box)
    assert "  changed " not in report.out + report.err, report.err


def _start(box: NspawnBox, bundle: Bundle) -> None:
    box.sh(f"systemd-run --quiet --unit={_UNIT} --property=RemainAfterExit=no sh -c {install_script(bundle)!r}")


def _runs(box: NspawnBox) -> bool:
    return box.sh(f"systemctl is-active {_UNIT}", check=False).out.strip() in ("active", "activating", "deactivating")


def _ended_well(box: NspawnBox) -> bool:
    return box.sh(f"systemctl show -p Result --value {_UNIT}").out.strip() == "success"


def _reaches(box: NspawnBox, phase: str) -> bool:
    """Wait until the running installation is in a phase; False when it ends before."""
    newest = "$(ls -d /var/lib/intramuros/runs/*/ | tail -1)"
    while _runs(box):
        events = f'grep -h "\\"phase_started\\",\\"phase\\":\\"{phase}\\"" {newest}/events.jsonl'
        if box.sh(events, check=False).ok:
            return True
        time.sleep(0.1)
    return False
