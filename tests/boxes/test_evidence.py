"""Evidence on installed boxes: what is broken is seen, and nothing else; and what scanners that are not ours say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.boxes.conftest import Installed, Rig
from tests.boxes.rig import images
from tests.boxes.rig.box import Box, write
from tests.boxes.rig.installation import ANSWERS, MEDIUM, Bundle, Wishes, answers, prepare
from tests.boxes.rig.nspawn import NspawnBox
from tests.boxes.rig.qemu import Machine, QemuBox, stick
from tests.boxes.rig.results import Figure, at_least, at_most, record

_BREAKS = {
    "IM-SSH-01": (
        "sed -i 's/^PermitRootLogin .*/PermitRootLogin yes/' /etc/ssh/sshd_config",
        "sed -i 's/^PermitRootLogin .*/PermitRootLogin no/' /etc/ssh/sshd_config",
    ),
    "IM-NET-21": ("sysctl -qw net.ipv4.tcp_syncookies=0", "sysctl -qw net.ipv4.tcp_syncookies=1"),
    "IM-FILE-05": ("chmod o+r /etc/shadow", "chmod o-r /etc/shadow"),
    "IM-MNT-04": ("mount -o remount,exec /tmp", "mount -o remount,noexec /tmp"),
}
_NOT_JUDGED = {"notselected", "notapplicable", "notchecked", "informational", "unknown"}


@pytest.mark.boxes
@pytest.mark.timeout(1200)
def test_each_broken_setting_is_the_one_that_fails(rig: Rig, installed: Installed) -> None:
    box = rig.box(layers=installed.layers)
    before = _failing(box)
    for control, (damage, repair) in _BREAKS.items():
        box.sh(damage)
        assert _failing(box) - before == {control}, control
        box.sh(repair)
        assert _failing(box) == before, control
    assert json.loads(box.sh("intramuros evidence verify --json").out)["ok"]


@pytest.mark.boxes
@pytest.mark.timeout(1200)
def test_drift_fails_the_daily_check_and_is_seen(rig: Rig, installed: Installed) -> None:
    box = rig.box(layers=installed.layers)
    box.sh("systemctl start intramuros-evidence.service")
    box.sh("chmod o+r /etc/shadow")
    assert not box.sh("systemctl start intramuros-evidence.service", check=False).ok
    assert "intramuros-evidence.service" in box.sh("systemctl --failed --no-legend").out
    seen = "journalctl -t intramuros-evidence | grep -q 'hardening has drifted'"
    box.sh(f'timeout 30 sh -c "until {seen}; do sleep 1; done"')
    answer = box.sh("intramuros evidence status --json", check=False)
    assert not answer.ok
    assert json.loads(answer.out)["newly_failing"] == ["IM-FILE-05"]
    box.sh("chmod o-r /etc/shadow")
    box.sh("systemctl start intramuros-evidence.service")


@pytest.mark.boxes
@pytest.mark.timeout(4 * 3600)
def test_referees_on_a_hardened_machine(rig: Rig, bundle: Bundle) -> None:
    """OpenSCAP and Lynis before and after our hardening alone, for a site that names a time and a log server.

    A machine without KVM is ten times slower. So the system is scanned as it was and hardened once as a container; then
    its disk is booted as a machine and hardened again, which adds what no container has (audit, GRUB's menu, the
    kernel's settings), and is scanned after a boot with the arguments that GRUB's menu names.
    """
    box = rig.box(layers=(rig.tree(images.SERVER),), shared=((bundle.medium, MEDIUM),))
    wishes = Wishes(address=box.address, public_key=rig.public_key, enabled=False, lifeline_seconds=3600)
    server = f'["{rig.network.router}"]'
    named = answers(wishes).replace("[network]\n", f"[network]\nntp = {server}\nsyslog = {server}\n")
    write(box, ANSWERS, named, mode="0600")
    prepare(box, bundle)
    box.sh("apt-get install -y --no-install-recommends openscap-scanner ssg-debian lynis", timeout=3600)
    _record("stock", _scan(box, "before"))
    harden = f"intramuros harden --bundle {MEDIUM} --answers {ANSWERS}"
    box.sh(harden, timeout=3600)
    box.stop()
    machine = _as_machine(rig, box, bundle)
    # What Debian's installer leaves; the waivers of a box without GRUB go, so that those of one with it are written.
    machine.sh("cp /usr/share/grub/default/grub /etc/default/grub && mkdir -p /boot/grub && update-grub", timeout=600)
    machine.sh("rm /etc/intramuros/waivers.toml")
    machine.sh(f"mount -o ro,nodev,nosuid /dev/disk/by-id/virtio-stick {MEDIUM}")
    machine.sh(harden, timeout=2 * 3600)
    menu = machine.sh(r"grep -m 1 -E '^\s*linux\s' /boot/grub/grub.cfg").out.split()
    machine.kernel_arguments.extend(word for word in menu if "=" in word and not word.startswith("root="))
    machine.reboot()
    hardened = _scan(machine, "after")
    _record("hardened", hardened)
    failing = _results(hardened, "cis_level1_server").get("fail", [])
    assert not failing, f"neither passed nor waived: {failing}"
    assert len(_results(hardened, "cis_level1_server").get("waived", [])) <= 10
    assert _share(hardened, "anssi_bp28_enhanced") >= 90
    assert hardened["referees"]["lynis"]["hardening_index"] >= 85


def _as_machine(rig: Rig, box: NspawnBox, bundle: Bundle) -> QemuBox:
    """Boot what a stopped container has become, with the medium beside it."""
    folder = rig.folder / "disk"
    folder.mkdir()
    images.write_disk(box.root, folder)
    made = Machine(
        name="machine",
        address=box.address,
        base=folder,
        disks=(("stick", stick(bundle.medium, rig.folder / "stick.raw"), True),),
    )
    machine = QemuBox(made_from=made, folder=rig.folder / "machine", network=rig.network, public_key=rig.public_key)
    rig.boxes.append(machine)
    machine.make()
    return machine


def _failing(box: Box) -> set[str]:
    box.sh("intramuros evidence collect --json")
    document = json.loads(box.sh("intramuros evidence show --json").out)
    return {each["id"] for each in document["controls"] if each["status"] in {"fail", "error"}}


def _scan(box: Box, label: str) -> dict[str, Any]:
    box.sh(f"intramuros evidence scan --label {label} --json", timeout=2 * 3600)
    document: dict[str, Any] = json.loads(box.sh("intramuros evidence show --json").out)
    return document


def _results(document: dict[str, Any], profile: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in next(p for p in document["referees"]["openscap"] if p["profile"] == profile)["results"]:
        kind = "waived" if each.get("waiver") and each["result"] == "fail" else each["result"]
        found.setdefault(kind, []).append(each["rule"])
    return found


def _share(document: dict[str, Any], profile: str) -> float:
    judged = {kind: rules for kind, rules in _results(document, profile).items() if kind not in _NOT_JUDGED}
    return 100 * len(judged.get("pass", [])) / sum(map(len, judged.values()))


def _record(name: str, document: dict[str, Any]) -> None:
    cis = _results(document, "cis_level1_server")
    index = document["referees"]["lynis"]["hardening_index"]
    if name == "stock":
        record(_known("boxes.stock.cis_level1_failing", len(cis.get("fail", [])), "rules"))
        record(_known("boxes.stock.anssi_enhanced_share", _share(document, "anssi_bp28_enhanced"), "%"))
        record(_known("boxes.stock.lynis_index", index, "points"))
        return
    record(at_most("boxes.hardened.cis_level1_failing", len(cis.get("fail", [])), 0, "rules"))
    record(at_most("boxes.hardened.cis_level1_waived", len(cis.get("waived", [])), 10, "rules"))
    record(at_least("boxes.hardened.anssi_enhanced_share", _share(document, "anssi_bp28_enhanced"), 90, "%"))
    record(at_least("boxes.hardened.lynis_index", index, 85, "points"))


def _known(identifier: str, value: float, unit: str) -> Figure:
    """A figure without a goal: what the comparison starts from."""
    return Figure(id=identifier, value=round(value, 2), unit=unit, goal="none: the comparison's start", met=True)
