"""The rig itself: what the scenarios rely on is seen to work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.boxes.conftest import Rig
from tests.boxes.rig.commands import run
from tests.boxes.rig.qemu import blank_disk

pytestmark = pytest.mark.timeout(900)


def test_box_boots_reboots_and_has_no_route_out(rig: Rig) -> None:
    box = rig.box()
    capture = rig.network.capture("leaves")
    assert run([*rig.ssh(box.address), "echo", "in"]).out == "in\n"
    assert not box.sh("timeout 5 bash -c ': > /dev/tcp/198.51.100.7/443'", check=False).ok
    box.sh("echo kept > /root/kept")
    first = box.sh("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestamp").out
    box.reboot()
    assert box.sh("cat /root/kept").out == "kept\n"
    assert box.sh("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestamp").out != first
    assert any("198.51.100.7" in line for line in capture.stop())


def test_outsider_reaches_the_box_from_three_zones(rig: Rig) -> None:
    box = rig.box()
    outsider = rig.outsider()
    for source in ("10.90.0.200", "10.90.0.33", "10.90.0.5"):
        scan = outsider.sh(f"nmap -Pn -n -sS -p 22,23 -S {source} -e host0 {box.address}").out
        assert "22/tcp open" in scan


def test_disk_of_a_box_fills_up(rig: Rig) -> None:
    box = rig.box(disk_bytes=128 << 20)
    filled = box.sh("dd if=/dev/zero of=/root/big bs=1M", check=False)
    assert "No space left" in filled.err
    assert box.sh("rm /root/big; echo fits > /root/small && cat /root/small").out == "fits\n"


def test_killed_box_starts_again(rig: Rig, run_directory: Path) -> None:
    box = rig.box()
    box.kill()
    box.start()
    layers = box.freeze()
    second = rig.box("second", octet=21, layers=layers)
    assert second.sh("hostname -I").out.split() == ["10.90.0.21"]


@pytest.mark.boxes
def test_machine_boots_with_disk_tpm_and_clock_and_keeps_its_state(rig: Rig) -> None:
    disk = blank_disk(rig.folder / "data.raw", 1)
    machine = rig.machine(disks=(("data", disk, False),), tpm=True, clock="2099-01-01T00:00:00")
    assert run([*rig.ssh(machine.address), "date", "+%Y"], timeout=60).out == "2099\n"
    assert machine.sh("test -c /dev/tpmrm0 && blockdev --getsize64 /dev/disk/by-id/virtio-data").out == f"{1 << 30}\n"
    assert machine.sh("cat /proc/sys/kernel/random/boot_id > /root/first; sync").ok
    machine.set_clock("1970-01-02T00:00:00")
    machine.reboot()
    assert machine.sh("! cmp -s /root/first /proc/sys/kernel/random/boot_id && date +%Y").out == "1970\n"
