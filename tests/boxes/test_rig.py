"""The rig itself: what the scenarios rely on is seen to work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boxes.conftest import Rig
from tests.boxes.rig.commands import run
from tests.boxes.rig.images import BOX, tree
from tests.boxes.rig.qemu import blank_disk
from tests.boxes.rig.results import at_least, at_most, record
from tests.boxes.rig.run_folder import mounts_below, processes_of, sweep

pytestmark = pytest.mark.timeout(900)
_RUN = """
import sys, time
from pathlib import Path
from tests.boxes.conftest import Rig
from tests.boxes.rig.commands import run
from tests.boxes.rig.network import make_network
from tests.boxes.rig.run_folder import run_folder
cache = Path(sys.argv[1])
with run_folder(cache) as folder:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"])
    (folder / "rig").mkdir()
    network = make_network(folder.name + "n0", folder / "rig")
    rig = Rig(folder=folder / "rig", cache=cache, network=network, key=folder / "key")
    rig.box(disk_bytes=64 << 20, memory_bytes=512 << 20)
    network.capture("all")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_box_boots_reboots_and_has_no_route_out(rig: Rig) -> None:
    box = rig.box()
    capture = rig.network.capture("leaves")
    assert run([*rig.ssh(box.address), "echo", "in"]).out == "in\n"
    assert not box.sh("timeout 5 bash -c ': > /dev/tcp/198.51.100.7/443'", check=False).ok
    box.sh("echo kept > /var/lib/kept")
    first = box.sh("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestamp").out
    box.reboot()
    assert box.sh("cat /var/lib/kept").out == "kept\n"
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
    filled = box.sh("dd if=/dev/zero of=/var/lib/big bs=1M", check=False)
    assert "No space left" in filled.err
    assert box.sh("rm /var/lib/big; echo fits > /var/lib/small && cat /var/lib/small").out == "fits\n"


def test_killed_box_starts_again(rig: Rig, run_directory: Path) -> None:
    box = rig.box()
    box.kill()
    box.start()
    layers = box.freeze()
    second = rig.box("second", octet=21, layers=layers)
    assert second.sh("hostname -I").out.split() == ["10.90.0.21"]


def test_what_a_killed_run_left_is_removed_by_the_next(box_cache: Path, tmp_path: Path) -> None:
    tree(box_cache, BOX)
    cache = tmp_path / "cache"
    (cache / "boxes").mkdir(parents=True)
    (cache / "boxes" / f"{BOX.name}-{BOX.digest}").symlink_to(tree(box_cache, BOX).parent)
    process = subprocess.Popen([sys.executable, "-c", _RUN, str(cache)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert processes_of(folder)
    sweep(folder.parent)
    assert processes_of(folder), "a run that lives was swept away"
    process.kill()
    process.wait()
    process.stdout.close()
    sweep(folder.parent)
    assert processes_of(folder) == []
    assert mounts_below(folder) == []
    assert folder.name not in run(["ip", "netns", "list"]).out
    assert list(folder.parent.iterdir()) == []


def test_figures_replace_one_another_by_id(tmp_path: Path) -> None:
    file = tmp_path / "boxes.json"
    record(at_most("b", 2, 1, "s"), file)
    record(at_least("a", 90, 85, "points"), file)
    record(at_most("b", 0.5, 1, "s"), file)
    assert json.loads(file.read_text()) == [
        {"id": "a", "value": 90.0, "unit": "points", "goal": ">= 85", "met": True},
        {"id": "b", "value": 0.5, "unit": "s", "goal": "<= 1", "met": True},
    ]


@pytest.mark.boxes
def test_machine_boots_with_disk_tpm_and_clock_and_keeps_its_state(rig: Rig) -> None:
    disk = blank_disk(rig.folder / "data.raw", 1)
    machine = rig.machine(disks=(("data", disk, False),), tpm=True, clock="2031-01-01T00:00:00")
    assert run([*rig.ssh(machine.address), "date", "+%Y"], timeout=60).out == "2031\n"
    assert machine.sh("test -c /dev/tpmrm0 && blockdev --getsize64 /dev/disk/by-id/virtio-data").out == f"{1 << 30}\n"
    assert machine.sh("cat /proc/sys/kernel/random/boot_id > /var/lib/first; sync").ok
    machine.set_clock("2032-01-01T00:00:00")
    machine.reboot()
    assert machine.sh("! cmp -s /var/lib/first /proc/sys/kernel/random/boot_id && date +%Y").out == "2032\n"
