"""What of this machine hardening would take away: the network from a router, disks on USB, the age of a password.

Reads, and judges nothing: `installer.preflight` does. What cannot be read is given as unknown (empty or None).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import msgspec
import psutil

from appliance.kernel import process
from appliance.kernel.errors import IntramurosError
from installer.harden.probe_source import Session
from installer.harden.way_back import WayBack, find_way_back

_OWN_MOUNTS = frozenset({"/", "/boot", "/boot/efi", "/home", "/opt", "/srv", "/usr", "/var"})
_USB_BUS = re.compile(r"usb\d+")


def way_back(session: Session | None) -> WayBack | None:
    """Return the way from and to whoever is logged in."""
    try:
        return find_way_back(session.client, session.server, _run) if session is not None else None
    except (IntramurosError, ValueError):
        return None


def advertised() -> tuple[str, ...]:
    """Return interfaces that are reached by what a router advertises."""
    try:
        addresses, routes = _run(("ip", "-j", "-6", "address")), _run(("ip", "-j", "-6", "route", "show", "default"))
        return advertised_interfaces(addresses.stdout, routes.stdout, Path("/proc/sys/net/ipv6/conf"))
    except (IntramurosError, msgspec.DecodeError):
        return ()


def advertised_interfaces(addresses: str, routes: str, settings: Path) -> tuple[str, ...]:
    """Return interfaces whose IPv6 address or default route the kernel takes from a router, by what `ip -j` says.

    systemd-networkd and NetworkManager listen to routers themselves, and tell the kernel not to.
    """
    found = {
        str(link["ifname"])
        for link in msgspec.json.decode(addresses or "[]")
        if any(each.get("dynamic") and each.get("scope") != "link" for each in link.get("addr_info", ()))
    }
    found |= {str(route["dev"]) for route in msgspec.json.decode(routes or "[]") if route.get("protocol") == "ra"}
    return tuple(sorted(name for name in found if _text(settings / name / "accept_ra") not in {"0", ""}))


def mounts_on_usb(sys: Path = Path("/sys")) -> tuple[str, ...]:
    """Return where the box's own file systems are mounted from disks on USB; a medium that is plugged in is none."""
    found = set()
    for part in psutil.disk_partitions():
        if part.mountpoint in _OWN_MOUNTS and is_on_usb(Path(part.device), sys):
            found.add(part.mountpoint)
    return tuple(sorted(found))


def is_on_usb(device: Path, sys: Path = Path("/sys")) -> bool:
    """Tell whether a block device, or a disk below it (LVM, encryption, RAID), hangs on USB."""
    try:
        number = device.stat().st_rdev
    except OSError:
        return False
    return number_is_on_usb(f"{os.major(number)}:{os.minor(number)}", sys)


def number_is_on_usb(number: str, sys: Path) -> bool:
    """Tell the same of a device's number, as sysfs writes it."""
    device = (sys / "dev" / "block" / number).resolve()
    if any(_USB_BUS.fullmatch(part) for part in device.parts):
        return True
    below = [each for folder in (device, device.parent) for each in (folder / "slaves").glob("*/dev")]
    return any(number_is_on_usb(_text(each), sys) for each in below)


def password_age(user: str, *, today: date, shadow: Path = Path("/etc/shadow")) -> int | None:
    """Return how many days ago an account's password was set; None without one, and when it cannot be read."""
    for line in _text(shadow).splitlines():
        name, secret, changed, *_ = [*line.split(":"), "", ""]
        if name == user and secret.startswith("$") and changed.isdigit():
            return (today - date(1970, 1, 1) - timedelta(days=int(changed))).days
    return None


def _run(argv: Sequence[str]) -> process.Outcome:
    return process.run(argv, timeout=20)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
