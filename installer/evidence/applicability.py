"""When a control says nothing about a machine: conditions by name, each with the reason that the evidence gives.

A condition is about what the machine is (a container, no TPM), never about what was not done to it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable

from installer.evidence.checks.kernel import is_mounted
from installer.evidence.checks.software import installed
from installer.evidence.machine import CannotTell, Machine
from installer.places import Places

DAEMON = "intramurosd.service"


def reason_against(conditions: tuple[str, ...], machine: Machine) -> str:
    """Return why a control does not apply, empty when it does. Raises CannotTell."""
    for name in conditions:
        holds, reason = _CONDITIONS[name]
        if holds(machine):
            return reason
    return ""


def condition_names() -> tuple[str, ...]:
    """Return the conditions that the catalogue may use."""
    return tuple(_CONDITIONS)


def is_container(machine: Machine) -> bool:
    """Tell whether the kernel belongs to somebody else."""
    answer = machine.run("systemd-detect-virt", "--container")
    return answer.stdout.strip() not in {"", "none"}


def _no(path: str) -> Callable[[Machine], bool]:
    return lambda machine: machine.facts(path) is None


def _without_package(name: str) -> Callable[[Machine], bool]:
    return lambda machine: name not in installed(machine)


def _without_mount(path: str) -> Callable[[Machine], bool]:
    return lambda machine: not is_mounted(path, machine)


def _no_apparmor(machine: Machine) -> bool:
    try:
        return (machine.read("/sys/module/apparmor/parameters/enabled") or "").strip() != "Y"
    except CannotTell:
        return True


def _no_log_server(machine: Machine) -> bool:
    """Ask the kept answers first, so that a deleted setting is no excuse; `harden` alone keeps none."""
    answers = machine.read(str(Places().answers))
    try:
        named = tomllib.loads(answers)["network"].get("syslog") if answers is not None else ()
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CannotTell(f"{Places().answers} says nothing about log servers: {error}") from error
    if named:
        return False
    names = machine.find("/etc/rsyslog.d/*.conf")
    return not any("omfwd" in (machine.read(name) or "") for name in names)


_CONDITIONS: dict[str, tuple[Callable[[Machine], bool], str]] = {
    "container": (is_container, "the kernel belongs to the host of this container"),
    "no-grub": (_no("/boot/grub/grub.cfg"), "GRUB does not boot this machine"),
    "no-ipv6": (_no("/proc/sys/net/ipv6"), "this kernel has no IPv6"),
    "no-apparmor": (_no_apparmor, "the running kernel has no AppArmor"),
    "no-appliance": (_no(f"/etc/systemd/system/{DAEMON}"), "the appliance is not installed on this box"),
    "no-encrypted-storage": (_no(str(Places().volume_table)), "no encrypted volume was asked for"),
    "no-log-server": (_no_log_server, "the answers name no log server"),
    "no-sudo": (_without_package("sudo"), "sudo is not installed"),
    "no-mail": (_without_package("postfix"), "no mail server is installed"),
    "no-home-mount": (_without_mount("/home"), "/home is no file system of its own"),
    "no-var-mount": (_without_mount("/var"), "/var is no file system of its own"),
    "no-var-tmp-mount": (_without_mount("/var/tmp"), "/var/tmp is no file system of its own"),  # noqa: S108
    "no-var-log-mount": (_without_mount("/var/log"), "/var/log is no file system of its own"),
    "no-var-log-audit-mount": (_without_mount("/var/log/audit"), "/var/log/audit is no file system of its own"),
}
