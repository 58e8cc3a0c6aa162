"""What hardening would take away, read from recorded answers of `ip`, from a small sysfs and a small shadow."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from installer.harden.stakes import advertised_interfaces, is_on_usb, number_is_on_usb, password_age

_FIXED = {"local": "2001:db8::2", "scope": "global"}
_SLAAC = {"local": "2001:db8::aaaa", "scope": "global", "dynamic": True, "protocol": "kernel_ra"}
_OWN_LINK = {"local": "fe80::1", "scope": "link"}


@pytest.mark.parametrize(
    ("addresses", "protocol", "accept", "expected"),
    [
        ([_FIXED, _OWN_LINK], "static", "1", ()),
        ([_SLAAC, _OWN_LINK], "static", "1", ("eth0",)),
        ([_FIXED], "ra", "1", ("eth0",)),
        ([_FIXED], "ra", "2", ("eth0",)),
        ([_SLAAC], "ra", "0", ()),  # networkd or NetworkManager listens itself
        ([{}], "static", "1", ()),
    ],
)
def test_interface_that_lives_on_advertisements(
    tmp_path: Path, addresses: list[dict[str, object]], protocol: str, accept: str, expected: tuple[str, ...]
) -> None:
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0" / "accept_ra").write_text(f"{accept}\n")
    listed = json.dumps([{"ifname": "eth0", "addr_info": addresses}, {}][:1])
    routes = json.dumps([{"dst": "default", "dev": "eth0", "protocol": protocol}])
    assert advertised_interfaces(listed, routes, tmp_path) == expected


def test_nothing_said_is_no_interface(tmp_path: Path) -> None:
    assert advertised_interfaces("", "", tmp_path) == ()


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """A sysfs with an internal disk, a disk at USB with a partition, and an encrypted volume on each."""
    devices = {
        "8:0": "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda",
        "8:16": "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb",
        "8:17": "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb/sdb1",
        "253:0": "virtual/block/dm-0",
        "253:1": "virtual/block/dm-1",
    }
    (tmp_path / "dev" / "block").mkdir(parents=True)
    for number, name in devices.items():
        folder = tmp_path / "devices" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dev").write_text(f"{number}\n")
        (tmp_path / "dev" / "block" / number).symlink_to(folder)
    for volume, disk in (("dm-0", "8:0"), ("dm-1", "8:17")):
        slaves = tmp_path / "devices/virtual/block" / volume / "slaves"
        slaves.mkdir()
        (slaves / "below").symlink_to(tmp_path / "dev" / "block" / disk)
    return tmp_path


@pytest.mark.parametrize(
    ("number", "expected"),
    [("8:0", False), ("8:16", True), ("8:17", True), ("253:0", False), ("253:1", True), ("7:7", False)],
)
def test_disk_at_usb_is_known_through_what_lies_on_it(sys: Path, number: str, expected: bool) -> None:
    assert number_is_on_usb(number, sys) is expected


def test_device_that_is_not_there_is_not_at_usb(sys: Path) -> None:
    assert not is_on_usb(sys / "nothing", sys)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ada:$y$j9T$x:20000:0:99999:7:::", 400),
        ("ada:$y$j9T$x:0:0:99999:7:::", 20400),
        ("ada:!$y$j9T$x:20000:0:99999:7:::", None),
        ("ada:*:20000:0:99999:7:::", None),
        ("ada:$y$j9T$x::0:99999:7:::", None),
        ("ada", None),
        ("eve:$y$j9T$x:20000:0:99999:7:::", None),
    ],
)
def test_age_of_a_password(tmp_path: Path, line: str, expected: int | None) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text(f"root:*:1:0:99999:7:::\n{line}\n")
    assert password_age("ada", today=date(2025, 11, 8), shadow=shadow) == expected
    assert password_age("ada", today=date(2025, 11, 8), shadow=tmp_path / "none") is None
