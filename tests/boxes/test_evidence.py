"""Evidence on installed boxes: what is broken is seen, and nothing else; and what scanners that are not ours say."""

from __future__ import annotations

import json

import pytest

from tests.boxes.conftest import Installed, Rig
from tests.boxes.rig import images
from tests.boxes.rig.box import Box, write
from tests.boxes.rig.installation import ANSWERS, MEDIUM, Bundle, Wishes, answers, prepare
from tests.boxes.rig.nspawn import NspawnBox
from tests.boxes.rig.qemu import Machine, QemuBox, stick
from tests.boxes.rig.referees import ANSSI, CIS, Referees, install_scanners, scan
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
def test_controls_of_the_appliance_apply_where_it_is_installed(rig: Rig, installed: Installed) -> None:
    box = rig.box(layers=installed.layers)
    box.sh("systemctl start intramuros-evidence.service")
    document = json.loads(box.sh("intramuros evidence show --json").out)
    of_ours = {each["id"]: each["status"] for each in document["controls"] if each["id"].startswith("IM-APP-")}
    assert of_ours == dict.fromkeys(of_ours, "pass"), of_ours
    assert "IM-APP-02" in of_ours
    assert _failing(box) == {"IM-SU-08"}, "the rig's administrator uses sudo without a password, and nothing else fails"


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
    assert not box.sh("systemctl start intramuros-evidence.service", check=False).ok
    answer = box.sh("intramuros evidence status --json", check=False)
    assert (json.loads(answer.out)["newly_failing"], json.loads(answer.out)["drifted"]) == ([], ["IM-FILE-05"])
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
    wishes = Wishes(
        address=box.address,
        public_key=rig.public_key,
        enabled=False,
        lifeline_seconds=3600,
        servers=(str(rig.network.router),),
    )
    write(box, ANSWERS, answers(wishes), mode="0600")
    prepare(box, bundle)
    install_scanners(box)
    _record_stock(scan(box, "before"))
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
    hardened = scan(machine, "after")
    _record_hardened(hardened)
    failing = hardened.rules(CIS).get("fail", [])
    assert not failing, f"neither passed nor waived: {failing}"
    assert len(hardened.rules(CIS).get("waived", [])) <= 10
    assert hardened.share(ANSSI) >= 90
    assert hardened.lynis_index >= 85


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


def _record_stock(said: Referees) -> None:
    record(_known("boxes.stock.cis_level1_failing", len(said.rules(CIS).get("fail", [])), "rules"))
    record(_known("boxes.stock.anssi_enhanced_share", said.share(ANSSI), "%"))
    record(_known("boxes.stock.lynis_index", said.lynis_index, "points"))


def _record_hardened(said: Referees) -> None:
    record(at_most("boxes.hardened.cis_level1_failing", len(said.rules(CIS).get("fail", [])), 0, "rules"))
    record(at_most("boxes.hardened.cis_level1_waived", len(said.rules(CIS).get("waived", [])), 10, "rules"))
    record(at_least("boxes.hardened.anssi_enhanced_share", said.share(ANSSI), 90, "%"))
    record(at_least("boxes.hardened.lynis_index", said.lynis_index, 85, "points"))


def _known(identifier: str, value: float, unit: str) -> Figure:
    """A figure without a goal: what the comparison starts from."""
    return Figure(id=identifier, value=round(value, 2), unit=unit, goal="none: the comparison's start", met=True)
