"""The floor, two processors and 4 GiB, as a virtual machine: it installs and serves; and clocks that are wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.boxes.conftest import Rig
from tests.boxes.rig.box import read, write
from tests.boxes.rig.commands import run
from tests.boxes.rig.installation import ADMINISTRATOR, MEDIUM, Bundle, Wishes, again, install
from tests.boxes.rig.qemu import QemuBox, stick
from tests.boxes.rig.results import at_most, record
from tests.boxes.rig.second_machine import ask, hand_over, install_client

pytestmark = [pytest.mark.boxes, pytest.mark.timeout(4 * 3600)]
_GIB = 1024
_HANDSHAKE = """import socket, ssl
trust = ssl.create_default_context(cafile="/etc/intramuros/tls/ca.crt")
with trust.wrap_socket(socket.create_connection(("127.0.0.1", 8443), 5), server_hostname="box") as line:
    print(line.version())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledMachine:
    """A virtual machine that was installed once, and is off."""

    system: Path
    medium: Path
    seconds: float
    answer: dict[str, object]


@pytest.fixture(scope="session")
def machine_installed(make_rig: Callable[[], Rig], bundle: Bundle) -> InstalledMachine:
    """Install the floor machine from a read-only disk and ask it from the second machine."""
    rig = make_rig()
    medium = stick(bundle.medium, rig.folder / "stick.raw")
    outsider = rig.outsider(shared=((bundle.medium, MEDIUM),))
    install_client(outsider)
    box = _machine(rig, medium)
    _mount(box)
    begun = time.monotonic()
    install(box, bundle, Wishes(address=box.address, public_key=rig.public_key))
    hand_over(box, outsider)
    answer = ask(outsider, box.address, "seed")
    seconds = time.monotonic() - begun
    outsider.freeze()
    return InstalledMachine(system=box.freeze(), medium=medium, seconds=seconds, answer=answer)


@pytest.fixture
def box(rig: Rig, machine_installed: InstalledMachine) -> QemuBox:
    """A machine in the state right after its installation, after a reboot."""
    return _machine(rig, machine_installed.medium, machine_installed.system)


def test_floor_installs_and_serves(machine_installed: InstalledMachine) -> None:
    answered = bool(machine_installed.answer.get("tokens"))
    record(at_most("boxes.floor.unanswered_requests", 0 if answered else 1, 0, "requests"))
    assert answered, machine_installed.answer


def test_second_run_after_a_reboot_changes_nothing(box: QemuBox) -> None:
    _mount(box)
    said, _ = again(box)
    assert "  changed " not in said.out + said.err, said.err


@pytest.mark.parametrize("clock", ["1970-01-02T00:00:00", "2099-01-01T00:00:00"])
def test_wrong_clock_locks_nobody_out_and_makes_no_new_authority(rig: Rig, box: QemuBox, clock: str) -> None:
    authority = read(box, "/etc/intramuros/tls/ca.crt")
    box.set_clock(clock)
    box.reboot()
    # systemd moves a clock that is before its own build, or 15 years after it, to the time of its build: such a battery
    # is harmless. Set by hand, nobody corrects it.
    assert box.sh("date +%Y").out.strip() not in ("1970", "2099")
    box.sh(f"date -s {clock} && systemctl restart intramuros.target intramuros-tls.service", check=False)
    login = [*rig.ssh(box.address, ADMINISTRATOR), "sudo", "-n", "date", "+%Y"]
    assert run(login, timeout=120).out.strip() == clock[:4]
    assert read(box, "/etc/intramuros/tls/ca.crt") == authority
    box.set_clock(None)
    box.reboot()
    box.sh("systemctl start intramuros-tls.service")
    assert read(box, "/etc/intramuros/tls/ca.crt") == authority
    _wait_for_handshake(box)


def test_expired_certificate_is_renewed_at_the_next_start(box: QemuBox) -> None:
    old = read(box, "/etc/intramuros/tls/gateway.crt")
    box.set_clock("2028-01-01T00:00:00")
    box.reboot()
    _wait_for_handshake(box, seconds=600)
    assert read(box, "/etc/intramuros/tls/gateway.crt") != old


def _machine(rig: Rig, medium: Path, system: Path | None = None) -> QemuBox:
    return rig.machine(memory_mib=4 * _GIB, cpus=2, disks=(("stick", medium, True),), system=system)


def _mount(box: QemuBox) -> None:
    box.sh(f"mkdir -p {MEDIUM} && mount -o ro /dev/disk/by-id/virtio-stick {MEDIUM}")


def _wait_for_handshake(box: QemuBox, *, seconds: int = 300) -> None:
    """Wait until the gateway proves itself to a client with the box's own clock."""
    write(box, "/var/lib/handshake.py", _HANDSHAKE)
    box.sh(f"timeout {seconds} sh -c 'until python3 /var/lib/handshake.py; do sleep 1; done'", timeout=seconds + 60)
