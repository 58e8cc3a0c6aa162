"""The floor, two processors and 4 GiB, as a virtual machine with encrypted data: it serves; and clocks that are wrong.

The tests about clocks share one machine and run in the order of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.boxes.conftest import Rig
from tests.boxes.encrypted_box import AUTHORITY, CERTIFICATE, EncryptedBox, InstalledMachine, start_encrypted_box
from tests.boxes.rig.box import read, write
from tests.boxes.rig.commands import run
from tests.boxes.rig.installation import ADMINISTRATOR, Bundle
from tests.boxes.rig.results import at_most, record

pytestmark = [pytest.mark.boxes, pytest.mark.timeout(4 * 3600)]

_HANDSHAKE = f"""import socket, ssl
trust = ssl.create_default_context(cafile="{AUTHORITY}")
with trust.wrap_socket(socket.create_connection(("127.0.0.1", 8443), 30), server_hostname="box") as line:
    print(line.version())
"""


@pytest.fixture(scope="module")
def box(make_rig: Callable[[], Rig], bundle: Bundle, machine_installed: InstalledMachine) -> Iterator[EncryptedBox]:
    """The installed machine, started again when its certificate has long ended."""
    rig = make_rig()
    try:
        made = start_encrypted_box(rig, bundle, machine_installed, clock="2028-01-01T00:00:00")
        write(made.machine, "/var/lib/handshake.py", _HANDSHAKE)
        yield made
    finally:
        rig.remove()


def test_floor_installs_and_serves(machine_installed: InstalledMachine) -> None:
    report = machine_installed.report
    answered = bool(report["answer"].get("tokens"))
    record(at_most("boxes.floor.unanswered_requests", 0 if answered else 1, 0, "requests"))
    assert answered, report


def test_expired_certificate_is_renewed_at_the_next_start(
    box: EncryptedBox, machine_installed: InstalledMachine
) -> None:
    _wait_for_handshake(box)
    assert box.sh("date +%Y").out == "2028\n"
    assert read(box.machine, CERTIFICATE) != machine_installed.report["certificate"]
    assert read(box.machine, AUTHORITY) == machine_installed.report["authority"]


def test_storage_at_usb_comes_by_one_command_alone(box: EncryptedBox) -> None:
    """As the pages say it; what is loaded is gone again after the test, for the evidence."""
    assert not box.sh("modprobe usb-storage", check=False).ok
    box.sh("modprobe --ignore-install usb-storage")
    box.sh("test -d /sys/module/usb_storage")
    box.sh("modprobe --remove usb-storage")


@pytest.mark.parametrize("clock", ["1970-01-02T00:00:00", "2099-01-01T00:00:00"])
def test_wrong_clock_locks_nobody_out_and_makes_no_new_authority(
    box: EncryptedBox, machine_installed: InstalledMachine, clock: str
) -> None:
    box.machine.set_clock(clock)
    box.machine.reboot()
    # systemd moves a clock that is before its own build, or 15 years after it, to the time of its build: such a battery
    # is harmless. Set by hand, nobody corrects it.
    assert box.sh("date +%Y").out.strip() not in ("1970", "2099")
    box.sh(f"date -s {clock} && systemctl restart intramuros.target intramuros-tls.service", check=False)
    login = [*box.rig.ssh(box.machine.address, ADMINISTRATOR), "sudo", "-n", "date", "+%Y"]
    assert run(login, timeout=300).out.strip() == clock[:4]
    assert read(box.machine, AUTHORITY) == machine_installed.report["authority"]


def test_with_its_clock_right_again_the_box_serves_by_the_same_authority(
    box: EncryptedBox, machine_installed: InstalledMachine
) -> None:
    box.machine.set_clock(None)
    box.machine.reboot()
    _wait_for_handshake(box)
    assert read(box.machine, AUTHORITY) == machine_installed.report["authority"]


def _wait_for_handshake(box: EncryptedBox) -> None:
    """Wait until the gateway proves itself to a client with the box's own clock."""
    box.wait("python3 /var/lib/handshake.py 2> /dev/null")
