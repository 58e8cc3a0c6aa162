"""Judges a machine before anything is changed. Pure: facts and answers in, findings out, everything at once.

The floor is what the smallest tested box has: 2 processors, 4 GiB of memory, x86-64-v3. Graphics cards are found and
named, and not used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime

from appliance.kernel.terminal import counted, size_text
from installer import secrets
from installer.answer_rules import contains, doubts
from installer.answers import Answers
from installer.facts import GATEWAY, Disk, Facts, Gpu
from installer.findings import Finding, Level
from installer.harden.other_access import ADMIN_GROUP

_SYSTEMS = {("debian", "12")}
_CPU_LEVEL = 3
_CPUS = 2
_MEMORY = 7 << 29
"""3.5 GiB: a machine with 4 GiB shows less, because the kernel keeps some for itself."""
_DISK_APPLIANCE = 8 << 30
_DISK_HARDENING = 1 << 30
_DATA_LEAST = 2 << 30
_DATA_LITTLE = 20 << 30
_PASSWORD_DAYS = 365
_EARLIEST, _LATEST = 2026, 2080
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}


def preflight(
    facts: Facts,
    answers: Answers | None = None,
    *,
    bundle_version: str | None = None,
    force_admin: bool = False,
    hardening_only: bool = False,
) -> list[Finding]:
    """Return what was looked at, in a fixed order. Without answers only the machine itself is judged.

    For hardening alone the machine may be a small one, and what only the appliance and its data need is left out.
    """
    serves = not hardening_only and (answers is None or answers.app.enabled)
    found = [*_system(facts), *_size(facts, serves=serves), *_clock(facts), *_firewalls(facts), *_pam(facts)]
    if not hardening_only:
        found += _gpus(facts.gpus)
    if bundle_version is not None:
        found.append(_ok("bundle", f"{bundle_version}, every file verified"))
    of_appliance = () if hardening_only else (_gateway_port, _data_mode, _storage)
    if answers is not None:
        found += [
            *_reachability(facts, answers, force_admin=force_admin),
            *_times(facts, answers),
            *_way_back(facts, answers),
            *_usb(facts, hardening_only=hardening_only),
            *_admin(facts, answers),
            *_other_access(facts, answers),
            *_appliance(facts, answers),
            *_data_folder(facts, answers),
            *_ssh_port(facts, answers),
            *(finding for judge in of_appliance for finding in judge(facts, answers)),
            *_files(facts),
            *(_warn(doubt.key, doubt.text) for doubt in doubts(answers)),
        ]
    return found


def _system(facts: Facts) -> Iterator[Finding]:
    name = f"{facts.os_id or 'unknown'} {facts.os_version}".strip()
    if (facts.os_id, facts.os_version) in _SYSTEMS:
        yield _ok("system", name)
    else:
        yield _fail("system", name, "Install Debian 12 (bookworm); nothing else was tested.")
    if facts.architecture == "x86_64":
        yield _ok("architecture", facts.architecture)
    else:
        yield _fail("architecture", facts.architecture or "unknown", "The bundle is for x86_64 (amd64).")
    if facts.user_id != 0:
        yield _fail("user", f"user {facts.user_id}", "Run it as root: sudo intramuros …")
    if facts.init != "systemd":
        yield _fail(
            "systemd", f"process 1 is {facts.init or 'unknown'}", "The services are systemd units; boot with systemd."
        )
    if facts.programs_missing:
        yield _fail(
            "programs", f"missing: {', '.join(facts.programs_missing)}", "Install a complete Debian base system."
        )
    if not facts.memory_file_system:
        yield _fail("/run", "is not in memory", "Secrets must not reach a disk: /run has to be a tmpfs.")


def _size(facts: Facts, *, serves: bool) -> Iterator[Finding]:
    worse = _fail if serves else _warn
    if facts.cpu_level >= _CPU_LEVEL:
        yield _ok("processor", f"x86-64-v{facts.cpu_level}, {facts.cpus} usable")
    else:
        yield worse(
            "processor",
            f"x86-64-v{facts.cpu_level}",
            "Engines need x86-64-v3 (AVX2, FMA, BMI2). In a virtual machine, pass the host's processor on.",
        )
    if facts.cpus < _CPUS:
        yield worse("processors", f"{facts.cpus} usable", f"At least {_CPUS} are needed.")
    if facts.memory >= _MEMORY:
        yield _ok("memory", size_text(facts.memory))
    else:
        yield worse("memory", size_text(facts.memory), "At least 4 GiB are needed.")
    needed = _DISK_APPLIANCE if serves and not facts.appliance_installed else _DISK_HARDENING
    if facts.root_free >= needed:
        yield _ok("disk", f"{size_text(facts.root_free)} free on /")
    else:
        yield _fail("disk", f"{size_text(facts.root_free)} free on /", f"At least {size_text(needed)} are needed.")


def _clock(facts: Facts) -> Iterator[Finding]:
    year = datetime.fromisoformat(facts.now).year if facts.now else 0
    if _EARLIEST <= year < _LATEST:
        yield _ok("clock", facts.now)
    else:
        yield _fail("clock", facts.now or "unknown", "Set it, in UTC: date -u -s 'YYYY-MM-DD hh:mm'; hwclock -w")


def _firewalls(facts: Facts) -> Iterator[Finding]:
    for name in facts.firewall_managers:
        yield _fail("firewall", f"{name} is active", f"Two firewalls undo each other: systemctl disable --now {name}")


def _pam(facts: Facts) -> Iterator[Finding]:
    for name in facts.pam_profiles_waiting:
        yield _fail(
            "PAM",
            f"profile {name} would be switched on by the next package",
            f"Try it with another session open: pam-auth-update; or remove /usr/share/pam-configs/{name}",
        )


def _gpus(gpus: tuple[Gpu, ...]) -> Iterator[Finding]:
    for gpu in gpus:
        if gpu.vendor in _VENDORS:
            yield _ok(
                "graphics",
                f"{_VENDORS[gpu.vendor]} {gpu.device}: found; used where the bundle brings a backend for it and its "
                "driver is installed, else models run on the processor",
            )


def _reachability(facts: Facts, answers: Answers, *, force_admin: bool) -> Iterator[Finding]:
    if facts.client:
        address = ipaddress.ip_address(facts.client)
        networks = ", ".join(answers.network.admin)
        if contains(answers.network.admin, address):
            yield _ok("your address", f"{facts.client} is in network.admin")
        elif force_admin:
            yield _warn(
                "your address",
                f"{facts.client} is not in network.admin ({networks})",
                "The lifeline will take the firewall back unless a login from there is proven.",
            )
        else:
            yield _fail(
                "your address",
                f"{facts.client} is not in network.admin ({networks})",
                "You would lock yourself out. Add your network; --force-admin, with --answers, goes on all the same.",
            )


def _times(facts: Facts, answers: Answers) -> Iterator[Finding]:
    if facts.timezone_known is False:
        yield _fail("timezone", f"there is no {answers.timezone}", "List the names with: timedatectl list-timezones")
    if facts.schedule_known is False:
        yield _fail(
            "backup.schedule",
            f"systemd knows no {answers.backup.schedule!r}",
            "Try one with: systemd-analyze calendar daily",
        )


def _way_back(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """Judge what hardening makes of the network: strict reverse paths, quiet ARP, no addresses by a router."""
    way = facts.way_back
    if way is not None and (way.elsewhere or not way.knows_neighbour):
        yield _warn("your way back", f"{way.text}; the hardened kernel drops that", way.hint)
    for name in facts.advertised:
        by_ipv6_alone = all(":" in network for network in answers.network.admin)
        depends = ":" in facts.client if facts.client else by_ipv6_alone
        yield (_fail if depends else _warn)(
            "IPv6",
            f"{name} has its address or default route from a router, and loses it after the next boot",
            "Hardened, no router is believed. Give it a fixed address and gateway, or DHCPv6 and a fixed gateway.",
        )


def _usb(facts: Facts, *, hardening_only: bool) -> Iterator[Finding]:
    hint = "Hardening forbids usb-storage: the box would not find it at the next boot. Use an internal disk."
    if facts.on_usb:
        yield _fail("USB", f"{', '.join(facts.on_usb)} on a disk at USB", hint)
    if not hardening_only and facts.data_disk is not None and facts.data_disk.usb:
        yield _fail("USB", f"storage.device {facts.data_disk.path} is a disk at USB", hint)


def _admin(facts: Facts, answers: Answers) -> Iterator[Finding]:
    admin = answers.admin
    comes = bool(admin.password_hash_file) or secrets.ADMIN_PASSWORD_HASH in facts.secrets_laid
    if admin.sudo == "password" and not comes and facts.admin_has_password is not True:
        yield _fail(
            "admin.password_hash_file",
            f"{admin.user} has no password, and sudo asks for it",
            'Let the wizard ask for it, make a hash (intramuros answers password), or set admin.sudo = "nopasswd".',
        )
    age = facts.admin_password_age
    if not comes and age is not None and age > _PASSWORD_DAYS:
        yield _warn(
            "admin.user",
            f"{admin.user}'s password is {age} days old",
            f"Hardened, a login by password and sudo ask for a new one. Set it before: sudo passwd {admin.user}",
        )


def _other_access(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """Tell who gets in beside what the answers say: nobody's access is taken away, or the last one might be."""
    user = answers.admin.user
    if facts.other_administrators:
        yield _warn(
            "admin.user",
            f"{', '.join(facts.other_administrators)} may become root, too",
            f"Where that shall not be: gpasswd -d NAME {ADMIN_GROUP}; and lock the account: usermod -L -e 1 NAME",
        )
    if facts.other_keys:
        yield _warn(
            "admin.authorized_keys",
            f"{user} has {counted(len(facts.other_keys), 'key')} that they do not name: {', '.join(facts.other_keys)}",
            f"Where they shall not let in, take their lines out of ~{user}/.ssh/authorized_keys.",
        )


def _ssh_port(facts: Facts, answers: Answers) -> Iterator[Finding]:
    if answers.ssh.port != 22:
        other = [each for each in facts.listeners if each.port == answers.ssh.port and each.program not in {"sshd", ""}]
        if other:
            yield _fail("ssh.port", f"{answers.ssh.port} is taken by {other[0].program}", "Choose another ssh.port.")


def _appliance(facts: Facts, answers: Answers) -> Iterator[Finding]:
    if facts.appliance_installed and not answers.app.enabled:
        yield _fail(
            "app.enabled",
            "false, and the appliance is installed here: it would run on, and its accounts be kept from no network",
            "Write enabled = true; systemctl disable --now intramuros.target stops it until it is installed again.",
        )


def _gateway_port(facts: Facts, answers: Answers) -> Iterator[Finding]:
    if not answers.app.enabled:
        return
    port = answers.app.port
    taken = [each for each in facts.listeners if each.port == port]
    foreign = [each for each in taken if each.program != GATEWAY]
    if foreign:
        who = foreign[0].program or "another program"
        yield _fail(
            "app.port", f"{port} is taken by {who} ({foreign[0].address})", "Stop it, or choose another app.port."
        )
    else:
        yield _ok("app.port", f"{port} is free" if not taken else f"{port} is the gateway's")


def _data_folder(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """Judge where an earlier installation's data is: a new installation serves it, and never moves it."""
    mount = answers.storage.mount
    if facts.data_at not in {"", mount}:
        yield _fail(
            "storage.mount",
            f"this box's data is in {facts.data_at}, not in {mount}",
            f'Write mount = "{facts.data_at}"; the data is not moved.',
        )


def _data_mode(facts: Facts, answers: Answers) -> Iterator[Finding]:
    if not facts.data_at or facts.data_in_volume == (answers.storage.mode == "luks"):
        return
    if facts.data_in_volume:
        yield _fail(
            "storage.mode",
            f"this box's data is in an encrypted volume at {facts.data_at}",
            'Write mode = "luks" and its device; the volume is kept as it is.',
        )
    else:
        yield _fail(
            "storage.mode",
            f"this box's data is in {facts.data_at}, unencrypted; the volume would hide it",
            'Write mode = "none", or install a box anew with luks and restore a backup there.',
        )


def _storage(facts: Facts, answers: Answers) -> Iterator[Finding]:
    storage = answers.storage
    if storage.mode != "luks":
        return
    if facts.data_disk is not None:
        yield from _data_disk(facts.data_disk, wipe=storage.wipe == storage.device)
    if not facts.device_mapper:
        yield _fail(
            "device mapper",
            "the kernel offers none",
            "Encryption needs dm-crypt: modprobe dm_mod dm_crypt. Containers have none.",
        )
    if "tpm2" in storage.unlock:
        if facts.tpm2:
            yield _ok("TPM", "version 2")
        else:
            yield _fail("TPM", "no TPM 2.0", "Enable it in the firmware, or leave tpm2 out of storage.unlock.")
        if not facts.uefi:
            yield _warn(
                "firmware", "not booted by UEFI", "Without Secure Boot the TPM's measurement of it protects little."
            )
    silent = set(facts.tang_silent)
    for server in storage.tang_servers:
        if server.url in silent and facts.data_disk is not None and facts.data_disk.ours:
            yield _warn(
                "Tang", f"{server.url} does not answer", "The volume is there; a reboot without it may ask for a key."
            )
        elif server.url in silent:
            yield _fail("Tang", f"{server.url} does not answer", "Start it, and let the network between pass its port.")
        else:
            yield _ok("Tang", f"{server.url} answers")


def _data_disk(disk: Disk, *, wipe: bool) -> Iterator[Finding]:
    what = "storage.device"
    if not disk.exists:
        yield _fail(what, f"there is no {disk.path}", "See the devices with: lsblk -o PATH,SIZE,MODEL")
    elif not disk.block:
        yield _fail(what, f"{disk.path} is no block device", "Name a whole disk or a partition.")
    elif disk.ours:
        yield _ok(what, f"{disk.path} holds this box's data volume already")
    elif disk.mounted:
        yield _fail(what, f"{disk.path} is in use at {', '.join(disk.mounted)}", "Unmount it, or name another device.")
    elif disk.parts or disk.holds:
        holds = ", ".join((*disk.parts, disk.holds) if disk.holds else disk.parts)
        if wipe:
            yield _warn(what, f"{disk.path} is not empty: {holds}", "All of it is lost, as storage.wipe says.")
        else:
            hint = "If nothing on it is needed, name it once more: storage.wipe"
            yield _fail(what, f"{disk.path} is not empty: {holds}", hint)
    elif disk.read_only:
        yield _fail(what, f"{disk.path} is read-only", "Name another device.")
    elif disk.size < _DATA_LEAST:
        yield _fail(what, f"{disk.path} has {size_text(disk.size)}", f"At least {size_text(_DATA_LEAST)} are needed.")
    elif disk.size < _DATA_LITTLE:
        yield _warn(what, f"{disk.path} has {size_text(disk.size)}", "Models and backups need room.")
    else:
        yield _ok(what, f"{disk.path} is empty, {size_text(disk.size)}")


def _files(facts: Facts) -> Iterator[Finding]:
    for path in facts.files_missing:
        yield _fail("file", f"there is no {path}", "Put it there, or correct the answers.")
    for path, text in facts.secret_faults:
        found = text if path in text else f"{path} {text}"
        yield _fail("secret", found, f"It must be root's, mode 0600, and hold the secret alone: {path}")


def _ok(what: str, found: str, hint: str = "") -> Finding:
    return Finding(level=Level.OK, what=what, found=found, hint=hint)


def _warn(what: str, found: str, hint: str = "") -> Finding:
    return Finding(level=Level.WARN, what=what, found=found, hint=hint)


def _fail(what: str, found: str, hint: str = "") -> Finding:
    return Finding(level=Level.FAIL, what=what, found=found, hint=hint)
